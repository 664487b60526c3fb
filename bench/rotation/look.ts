/** What Postgres is polled for while slots rotate. */
import { SqlClient } from "@effect/sql"
import { Array as Arr, Effect, Fiber } from "effect"
import { now } from "../harness/clock.ts"
import { APPLICATION } from "./event.ts"

/** What nobody is to notice. */
export const STALL_MILLIS = 100

export const vacuums = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql<{ count: number }>`
    SELECT sum(vacuum_count + autovacuum_count)::float8 AS count FROM pg_stat_user_tables WHERE schemaname = 'outbox'
  `
).pipe(Effect.map(([row]) => row?.count ?? Number.NaN))

export interface Sample {
  /** In milliseconds of this machine's clock. */
  readonly at: number
  readonly bytes: number
  readonly eventBytes: number
  readonly slot: number
  /** Of each slot, in milliseconds of Postgres' clock. */
  readonly opened: ReadonlyArray<number | null>
  readonly emptied: ReadonlyArray<number | null>
}

export const sample = Effect.gen(function* () {
  const [row] = yield* (yield* SqlClient.SqlClient)<Omit<Sample, "at">>`
    SELECT
      (
        SELECT sum(pg_total_relation_size(oid))::float8
        FROM pg_class
        WHERE relnamespace = 'outbox'::regnamespace AND relkind IN ('r', 'S')
      ) AS bytes,
      (
        SELECT sum(pg_relation_size(inhrelid))::float8 FROM pg_inherits WHERE inhparent = 'outbox.event'::regclass
      ) AS "eventBytes",
      outbox.current_slot() AS slot,
      (SELECT array_agg(extract(epoch FROM opened_at)::float8 * 1000 ORDER BY slot) FROM outbox.slot) AS opened,
      (SELECT array_agg(extract(epoch FROM emptied_at)::float8 * 1000 ORDER BY slot) FROM outbox.slot) AS emptied
  `
  return Arr.fromNullable(row).map((row): Sample => ({ ...row, at: now() }))
})

/** What publishers were seen to wait for, and how many of them. */
interface Wait {
  readonly at: number
  readonly event: string
  readonly sessions: number
}

/** What publishers wait for, of those that wait for a table or have waited for long. */
export const waits = Effect.gen(function* () {
  const rows = yield* (yield* SqlClient.SqlClient)<Omit<Wait, "at">>`
    SELECT coalesce(wait_event_type || ': ' || wait_event, 'a processor') AS event, count(*)::integer AS sessions
    FROM pg_stat_activity
    WHERE application_name = ${APPLICATION} AND state = 'active'
      AND (
        (wait_event_type = 'Lock' AND wait_event = 'relation')
        OR clock_timestamp() - query_start > ${STALL_MILLIS / 2} * interval '1 millisecond'
      )
    GROUP BY 1
  `
  return rows.map((row): Wait => ({ ...row, at: now() }))
})

export const ON_A_TABLE = "Lock: relation"

/** Polls until it is interrupted. Each look is appended to the array. */
export const collect = <A, E, R>(look: Effect.Effect<ReadonlyArray<A>, E, R>, pause: number) =>
  Effect.gen(function* () {
    const found: Array<A> = []
    let stopped = false
    const looking = yield* look.pipe(
      Effect.tap((each) => Effect.sync(() => found.push(...each))),
      Effect.zipRight(Effect.sleep(pause)),
      Effect.repeat({ until: () => stopped }),
      Effect.forkScoped
    )
    const stop = Effect.sync(() => {
      stopped = true
    })
    return { found, stop, failed: Effect.zipRight(Fiber.join(looking), Effect.never) }
  })
