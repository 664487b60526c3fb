/** Reading failures. Each function is one statement, and so one snapshot. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { Fragment } from "@effect/sql/Statement"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { FailureId } from "../Batch.ts"
import type { EventId } from "../Event.ts"
import { DEFAULT_LIMIT, firstRowOf, type Page, rfc3339, rowOf, rowsOf } from "../schema/columns.ts"
import {
  Arrivals,
  BatchFailure,
  FailedEvent,
  FailedEventNotFound,
  FailureNotFound,
  type Filter
} from "../schema/failures.ts"

export const make = (sql: SqlClient.SqlClient) => ({
  list: Effect.fn("BatchFailures.list")((filter: Filter, { after, limit = DEFAULT_LIMIT }: Page<FailureId> = {}) =>
    sql`
      SELECT ${sql.literal(FAILURE_COLUMNS)}
      FROM outbox.batch_failure_status AS failure
      WHERE ${matches(sql, filter)} AND ${after === undefined ? sql`true` : sql`failure.id < ${after}`}
      ORDER BY failure.id DESC
      LIMIT ${limit}
    `.pipe(rowsOf(BatchFailure))
  ),

  get: Effect.fn("BatchFailures.get")((failureId: FailureId) =>
    sql`
      SELECT ${sql.literal(FAILURE_COLUMNS)}
      FROM outbox.batch_failure_status AS failure
      WHERE failure.id = ${failureId}
    `.pipe(
      firstRowOf(BatchFailure),
      Effect.flatMap(Option.match({ onNone: () => new FailureNotFound({ failureId }), onSome: Effect.succeed }))
    )
  ),

  events: Effect.fn("BatchFailures.events")(
    (failureId: FailureId, { after, limit = DEFAULT_LIMIT }: Page<number> = {}) =>
      sql`
        SELECT ${sql.literal(EVENT_COLUMNS)}
        FROM outbox.batch_failure_event AS event
        WHERE event.failure_id = ${failureId} AND event.id > ${after ?? 0}
        ORDER BY event.id
        LIMIT ${limit}
      `.pipe(rowsOf(FailedEvent))
  ),

  /** Of several under one id the one that a change would concern: the oldest that was not replayed yet. */
  event: Effect.fn("BatchFailures.event")((failureId: FailureId, eventId: EventId) =>
    sql`
      SELECT ${sql.literal(EVENT_COLUMNS)}
      FROM outbox.batch_failure_event AS event
      WHERE event.failure_id = ${failureId} AND event.event_id = ${eventId}::uuid
      ORDER BY event.replayed_at NULLS FIRST, event.id
      LIMIT 1
    `.pipe(
      firstRowOf(FailedEvent),
      Effect.flatMap(
        Option.match({ onNone: () => new FailedEventNotFound({ failureId, eventId }), onSome: Effect.succeed })
      )
    )
  ),

  /**
   * Says of each event what {@link Operations.where} says, and reads the whole outbox as that does. The few transactions
   * that events were replayed in are looked up among the batches, not each event.
   */
  arrivals: Effect.fn("BatchFailures.arrivals")((failureIds: ReadonlyArray<FailureId>) =>
    // One statement, one snapshot: an event is not missed between its row in the outbox and its next failure.
    sql`
      WITH replayed AS MATERIALIZED (
        SELECT
          event_id,
          EXISTS (
            SELECT FROM outbox.batch_failure_event AS again
            WHERE again.event_id = event.event_id AND again.replayed_at IS NULL
          ) AS failed
        FROM outbox.batch_failure_event AS event
        WHERE failure_id = ANY (${failureIds}::bigint[]) AND replayed_at IS NOT NULL
        GROUP BY event_id
      ),
      newest AS MATERIALIZED (
        -- A row that was published again has the time of the first.
        SELECT DISTINCT ON (event_id) event_id, event.event_type::text AS event_type, tx_id, id
        FROM replayed JOIN outbox.event USING (event_id)
        WHERE NOT failed
        ORDER BY event_id, published_at DESC, tx_id DESC, id DESC
      ),
      settled AS MATERIALIZED (
        SELECT tx_id, first_tx_id, first_id, last_tx_id, last_id, by_type, event_types
        FROM (SELECT DISTINCT tx_id FROM newest) AS published
        JOIN outbox.batch
          ON state IN ('delivered', 'failed')
         AND tx_id BETWEEN first_tx_id AND last_tx_id
         AND pg_visible_in_snapshot(tx_id, to_snapshot)
         AND NOT pg_visible_in_snapshot(tx_id, from_snapshot)
      ),
      pending AS (
        SELECT event_id
        FROM newest
        WHERE NOT EXISTS (
          SELECT FROM settled
          WHERE settled.tx_id = newest.tx_id
            AND (newest.tx_id, newest.id) >= (first_tx_id, first_id)
            AND (newest.tx_id, newest.id) <= (last_tx_id, last_id)
            AND (NOT by_type OR newest.event_type = ANY (event_types))
        )
      )
      -- What has left the outbox was delivered, also where the row that was refused before is still there.
      SELECT
        count(*) FILTER (WHERE failed)::integer AS failed,
        count(pending.event_id)::integer AS pending,
        count(*) FILTER (WHERE NOT failed AND pending.event_id IS NULL)::integer AS delivered
      FROM replayed LEFT JOIN pending USING (event_id)
    `.pipe(rowOf(Arrivals))
  )
})

/** Whether the filter matches `failure`, a row of `outbox.batch_failure`. */
export const matches = (sql: SqlClient.SqlClient, filter: Filter): Fragment => {
  const { class: errorClass, code, eventType, ids, since, state, until } = filter
  return sql.and([
    ...(ids === undefined ? [] : [sql`failure.id = ANY (${ids}::bigint[])`]),
    ...(state === undefined ? [] : [sql`failure.state = ${state}`]),
    ...(errorClass === undefined ? [] : [sql`failure.error_class = ${errorClass}`]),
    ...(code === undefined ? [] : [sql`failure.error_code = ${code}`]),
    ...(since === undefined ? [] : [sql`failure.last_seen_at >= ${since.toISOString()}::timestamptz`]),
    ...(until === undefined ? [] : [sql`failure.last_seen_at < ${until.toISOString()}::timestamptz`]),
    ...(eventType === undefined
      ? []
      : [
          sql`EXISTS (
            SELECT FROM outbox.batch_failure_event
            WHERE failure_id = failure.id AND event_type = ${eventType}
          )`
        ]),
    sql`true`
  ])
}

const FAILURE_COLUMNS = `
  failure.id::float8 AS id,
  failure.state,
  failure.batch_id::float8 AS batch_id,
  failure.origin_batch_id::float8 AS origin_batch_id,
  failure.event_count,
  failure.replayed_count,
  failure.corrected_count,
  failure.event_types,
  failure.parked,
  failure.error_class AS class,
  failure.error_code AS code,
  failure.error_message AS message,
  ${rfc3339("failure.first_seen_at")} AS first_seen_at,
  ${rfc3339("failure.last_seen_at")} AS last_seen_at,
  failure.attempts,
  failure.previous_failure_id::float8 AS previous_failure_id,
  failure.next_failure_id::float8 AS next_failure_id,
  ${rfc3339("failure.closed_at")} AS closed_at,
  failure.note`

/** Of `event`, a row of `outbox.batch_failure_event`, as a {@link FailedEvent} is read. */
export const EVENT_COLUMNS = `
  event.failure_id::float8 AS failure_id,
  event.id::float8 AS id,
  event.event_id,
  event.event_type,
  ${rfc3339("event.event_date_time")} AS event_date_time,
  event.environment,
  event.event_context::text AS event_context,
  event.metadata_version::text AS metadata_version,
  event.traceparent,
  ${rfc3339("event.published_at")} AS published_at,
  ${rfc3339("event.corrected_at")} AS corrected_at,
  ${rfc3339("event.replayed_at")} AS replayed_at`
