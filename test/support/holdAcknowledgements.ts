/** Stops relays between ClickHouse's yes and its acknowledgement in Postgres, where a crash is most delicate. */
import * as SqlClient from "@effect/sql/SqlClient"
import * as Effect from "effect/Effect"
import { until } from "./wait.ts"

export interface Held {
  /** Waits until so many acknowledgements are stopped. */
  readonly arrived: (count: number) => Effect.Effect<void>
  /** Breaks those that are stopped off, so that they never happen. */
  readonly breakOff: Effect.Effect<void>
  /** Lets them and all later ones through. */
  readonly release: Effect.Effect<void>
}

/** From now on, until released or until the scope closes. */
export const make = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const session = yield* sql.reserve
  yield* sql.unsafe(`
    CREATE OR REPLACE FUNCTION outbox.wait_to_acknowledge() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN NEW; END $$;
    CREATE OR REPLACE TRIGGER wait_to_acknowledge BEFORE UPDATE ON outbox.batch
    FOR EACH ROW WHEN (NEW.state = 'delivered') EXECUTE FUNCTION outbox.wait_to_acknowledge()
  `)
  yield* session.executeRaw("SELECT pg_advisory_lock(4711)", [])
  // Other test files use the lock's number too, each in its own database.
  const stopped = sql`
    locktype = 'advisory' AND objid = 4711 AND NOT granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  `
  const held: Held = {
    arrived: (count) =>
      Effect.asVoid(
        Effect.orDie(until(sql`SELECT FROM pg_locks WHERE ${stopped}`, (waiting) => waiting.length === count))
      ),
    breakOff: Effect.asVoid(
      Effect.orDie(sql`
        SELECT pg_terminate_backend(pid, 60000) FROM pg_locks WHERE ${stopped}
      `)
    ),
    release: Effect.asVoid(Effect.orDie(session.executeRaw("SELECT pg_advisory_unlock_all()", [])))
  }
  yield* Effect.addFinalizer(() => held.release)
  return held
})
