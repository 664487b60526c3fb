/** The outbox's side of a comparison: which batches were delivered, and which failures are open. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { Batch } from "../Batch.ts"
import type { EventId } from "../Event.ts"
import { BATCH_COLUMNS, type Delivered } from "../schema/batches.ts"
import { rfc3339, rowsOf } from "../schema/columns.ts"
import { Failed } from "./model.ts"

/** From a time on, and before another, in the notation of {@link rfc3339}; null is no bound. */
export interface Range {
  readonly since: string | null
  readonly until: string
}

const within = (sql: SqlClient.SqlClient, column: string, { since, until }: Range) =>
  sql`${sql.literal(column)} >= coalesce(${since}::timestamptz, '-infinity') AND ${sql.literal(column)} < ${until}::timestamptz`

/** What fits into memory beside each other: small batches are compared together, a large one by itself. */
const EVENTS_AT_ONCE = 50_000
const BATCHES_AT_ONCE = 500

const DeliveredRow = Schema.Struct({ ...Batch.fields, deliveredAt: Schema.String })

/** The next batches by their ids. Those that are delivered meanwhile are beyond the range. */
export const nextDelivered = (
  sql: SqlClient.SqlClient,
  range: Range,
  after: number
): Effect.Effect<ReadonlyArray<Delivered>, SqlError> =>
  sql`
    SELECT ${sql.literal(BATCH_COLUMNS)}, ${sql.literal(rfc3339("batch.delivered_at"))} AS "deliveredAt"
    FROM (
      SELECT *, sum(event_count) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) - event_count AS events_before
      FROM (
        SELECT *
        FROM outbox.batch
        WHERE id > ${after} AND state = 'delivered' AND ${within(sql, "delivered_at", range)}
        ORDER BY id
        LIMIT ${BATCHES_AT_ONCE}
      ) AS next
    ) AS batch
    WHERE events_before < ${EVENTS_AT_ONCE}
    ORDER BY batch.id
  `.pipe(
    rowsOf(DeliveredRow),
    Effect.map((rows) => rows.map(({ deliveredAt, ...batch }) => ({ batch: new Batch(batch), deliveredAt })))
  )

export interface Moment {
  readonly now: string
  readonly completeSince: string | null
}

/** A slot is emptied after new rows have ceased to go to it: what came after that is there. */
export const moment = (sql: SqlClient.SqlClient): Effect.Effect<Moment, SqlError> =>
  sql<Moment>`
    SELECT
      ${sql.literal(rfc3339("clock_timestamp()"))} AS now,
      CASE WHEN count(emptied_at) > 0 THEN ${sql.literal(
        rfc3339("coalesce(max(left_at) FILTER (WHERE emptied_at > left_at), min(opened_at))")
      )} END AS "completeSince"
    FROM outbox.slot
  `.pipe(Effect.map(([row]) => row ?? { now: "", completeSince: null }))

/**
 * How often each was published, as far as the outbox knows, without what ClickHouse refused. What was published again by
 * a relay keeps the time of its publication, and counts once. Reads the whole outbox.
 */
export const countPublished = (
  sql: SqlClient.SqlClient,
  eventIds: ReadonlyArray<EventId>
): Effect.Effect<ReadonlyMap<string, number>, SqlError> =>
  sql<{ id: string; times: number }>`
    SELECT event_id AS id, count(DISTINCT published_at)::integer AS times
    FROM outbox.event
    WHERE event_id = ANY (${eventIds}::uuid[])
      AND NOT EXISTS (
        SELECT
        FROM outbox.batch_failure_event AS failed
        WHERE failed.event_id = event.event_id AND failed.published_at = event.published_at
      )
    GROUP BY event_id
  `.pipe(Effect.map((rows) => new Map(rows.map(({ id, times }) => [id, times] as const))))

const FAILURES_AT_ONCE = 500

export const nextFailed = (
  sql: SqlClient.SqlClient,
  range: Range,
  after: number
): Effect.Effect<ReadonlyArray<Failed>, SqlError> =>
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
    WHERE id > ${after} AND state = 'open' AND ${within(sql, "last_seen_at", range)}
    ORDER BY id
    LIMIT ${FAILURES_AT_ONCE}
  `.pipe(Effect.flatMap((rows) => Effect.orDie(Schema.decodeUnknown(Schema.Array(Failed))(rows))))
