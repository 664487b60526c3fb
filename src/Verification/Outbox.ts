/** The outbox's side of a comparison: which batches were delivered, which failures are open. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { EventId } from "../Event.ts"
import { BATCH_COLUMNS, Delivered } from "../schema/batches.ts"
import { rfc3339, rowOf, rowsOf } from "../schema/columns.ts"
import { Failed } from "./model.ts"

/** From a time on, and before another, in the notation of {@link rfc3339}; null is no bound. */
export interface Range {
  readonly since: string | null
  readonly until: string
}

const Moment = Schema.Struct({ now: Schema.String, completeSince: Schema.NullOr(Schema.String) })

const Published = Schema.Struct({ id: EventId, times: Schema.Int })

/** What fits into memory beside each other: small batches are compared together, a large one by itself. */
const EVENTS_AT_ONCE = 50_000
const BATCHES_AT_ONCE = 500
const FAILURES_AT_ONCE = 500

export const make = (sql: SqlClient.SqlClient) => {
  const within = (column: string, { since, until }: Range) =>
    sql`${sql.literal(column)} >= coalesce(${since}::timestamptz, '-infinity') AND ${sql.literal(column)} < ${until}::timestamptz`

  return {
    /** What time it is, and since when the outbox has everything. */
    // A slot is emptied after new rows have ceased to go to it: what came after that is there.
    moment: sql`
      SELECT
        ${sql.literal(rfc3339("clock_timestamp()"))} AS now,
        CASE WHEN count(emptied_at) > 0 THEN ${sql.literal(
          rfc3339("coalesce(max(left_at) FILTER (WHERE emptied_at > left_at), min(opened_at))")
        )} END AS "completeSince"
      FROM outbox.slot
    `.pipe(rowOf(Moment)),

    /** The next batches by their ids. Those that are delivered meanwhile are beyond the range. */
    nextDelivered: (range: Range, after: number): Effect.Effect<ReadonlyArray<Delivered>, SqlError> =>
      sql`
        SELECT ${sql.literal(BATCH_COLUMNS)}, ${sql.literal(rfc3339("batch.delivered_at"))} AS "deliveredAt"
        FROM (
          SELECT *, sum(event_count) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) - event_count AS events_before
          FROM (
            SELECT *
            FROM outbox.batch
            WHERE id > ${after} AND state = 'delivered' AND ${within("delivered_at", range)}
            ORDER BY id
            LIMIT ${BATCHES_AT_ONCE}
          ) AS next
        ) AS batch
        WHERE events_before < ${EVENTS_AT_ONCE}
        ORDER BY batch.id
      `.pipe(rowsOf(Delivered)),

    nextFailed: (range: Range, after: number): Effect.Effect<ReadonlyArray<Failed>, SqlError> =>
      sql`
        SELECT
          'failed' AS kind,
          id::float8 AS failure_id,
          batch_id::float8 AS batch_id,
          event_count - replayed_count AS events,
          error_class AS class,
          error_code AS code,
          ${sql.literal(rfc3339("last_seen_at"))} AS last_seen_at
        FROM outbox.batch_failure_status
        WHERE id > ${after} AND state = 'open' AND ${within("last_seen_at", range)}
        ORDER BY id
        LIMIT ${FAILURES_AT_ONCE}
      `.pipe(rowsOf(Failed)),

    /**
     * How often each was published, as far as the outbox knows, without what ClickHouse refused. What was published again
     * by a relay keeps the time of its publication, and counts once. Reads the whole outbox.
     */
    countPublished: (eventIds: ReadonlyArray<EventId>): Effect.Effect<ReadonlyMap<EventId, number>, SqlError> =>
      sql`
        SELECT event_id AS id, count(DISTINCT published_at)::integer AS times
        FROM outbox.event
        WHERE event_id = ANY (${eventIds}::uuid[])
          AND NOT EXISTS (
            SELECT
            FROM outbox.batch_failure_event AS failed
            WHERE failed.event_id = event.event_id AND failed.published_at = event.published_at
          )
        GROUP BY event_id
      `.pipe(
        rowsOf(Published),
        Effect.map((rows) => new Map(rows.map(({ id, times }) => [id, times])))
      )
  }
}
