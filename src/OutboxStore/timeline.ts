/**
 * A new timeline of Postgres' write-ahead log: a standby was promoted, or a backup recovered to a point in time. Of neither
 * can be told whether commits were lost, and with them what relays wrote down of deliveries. So whatever is undelivered
 * here may be in ClickHouse, under tokens that nobody knows any more: ClickHouse is asked for it before any of it is sent.
 * If nothing was lost, that is one question for each batch.
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"

/**
 * Nothing that was committed before is trusted, whether it is in a batch already or sealed later. The lock of sealing is
 * held. A batch that is leased meanwhile is leased in doubt.
 */
export const enterTimeline = (sql: SqlClient.SqlClient): Effect.Effect<void, SqlError> =>
  Effect.gen(function* () {
    const [entered] = yield* sql<{ timeline: number }>`
      UPDATE outbox.sealer SET
        timeline = outbox.current_timeline(),
        doubt_before = greatest(doubt_before, pg_snapshot_xmax(pg_current_snapshot())),
        doubted_at = clock_timestamp()
      RETURNING timeline
    `
    const pending = yield* doubtPending(sql)
    yield* Effect.logWarning(
      `Postgres is on timeline ${entered?.timeline} now: in a fail-over or a recovery commits may have been lost. ClickHouse is asked for what is undelivered, ${pending} batches and what is not in one, before it is sent`
    )
  })

/** Returns how many batches that are. */
export const doubtPending = (sql: SqlClient.SqlClient): Effect.Effect<number, SqlError> =>
  Effect.map(
    sql`UPDATE outbox.batch SET ask_first = true WHERE state = 'pending' RETURNING id`,
    (batches) => batches.length
  )
