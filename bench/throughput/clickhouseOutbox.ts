/** This project: the relay as a process of its own, built, with the default configuration. */
import { SqlClient } from "@effect/sql"
import { Array, Effect, type Scope } from "effect"
import { startRelay } from "../harness/processes.ts"
import { type Arena, type Contestant, EVERYTHING, type Services, type Started } from "./Contestant.ts"

const INSERT = `
  INSERT INTO outbox.event (
    event_id, event_type, event_date_time, environment, event_context, context_bytes, metadata_version, traceparent, slot
  )
  SELECT
    event_id, event_type, event_date_time, environment, event_context, octet_length(event_context::text), metadata_version,
    traceparent, (SELECT outbox.current_slot())
  FROM bench.source`

const outbox = { name: "clickhouse-outbox", schema: "outbox", most: EVERYTHING }

/** In transactions of 1,000 events, as a busy application would. */
const prepare = ({ events }: Arena) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    sql.unsafe(`
      DO $$
      BEGIN
        FOR transaction IN 0 .. (${events} - 1) / 1000 LOOP
          ${INSERT}
          WHERE position > transaction * 1000 AND position <= least((transaction + 1) * 1000, ${events});
          COMMIT;
        END LOOP;
      END $$`)
  ).pipe(Effect.asVoid)

/**
 * Relays that have been running for a while, and one transaction with all events. The clock starts when it commits: that
 * is when there is something to carry, for all of them at once.
 */
export const running = (processes: number, own: Readonly<Record<string, string>> = {}): Contestant => ({
  ...outbox,
  variant: processes === 1 ? "running, 1 process" : `running, ${processes} processes`,
  about: "clickhouse-outbox relay, from the commit of one transaction with all events",
  prepare: () => Effect.void,
  start: ({ events, variables }) =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const transaction = yield* sql.reserve
      yield* transaction.executeRaw("BEGIN", [])
      yield* transaction.executeRaw(`${INSERT} WHERE position <= ${events}`, [])
      const programs = yield* Effect.all(
        Array.makeBy(processes, () => startRelay([], { ...variables, ...own })),
        { concurrency: "unbounded" }
      )
      return { programs, go: Effect.asVoid(transaction.executeRaw("COMMIT", [])), ends: false } satisfies Started
    })
})

export const contestants: ReadonlyArray<Contestant> = [
  // `relays` measures more of them.
  running(1),
  {
    ...outbox,
    variant: "--until-empty",
    about: "clickhouse-outbox relay --until-empty, from when it is connected",
    prepare,
    start: ({ variables }): Effect.Effect<Started, Error, Services | Scope.Scope> =>
      Effect.map(startRelay(["--until-empty"], variables), (program) => ({
        programs: [program],
        go: Effect.void,
        ends: true
      }))
  }
]
