/** What is there. Each is one statement, and so one snapshot. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import type { Fragment } from "@effect/sql/Statement"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { DEFAULT_LIMIT, type Page, rfc3339 } from "../schema/columns.ts"
import {
  BatchFailure,
  FailedEvent,
  FailedEventNotFound,
  type FailureId,
  FailureNotFound,
  type Filter
} from "../schema/failures.ts"

export const failureColumns = `
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

export const eventColumns = `
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

/** The tables are ours and their columns typed, so a row that does not decode is a defect. */
export const decodeEvents = (rows: unknown): Effect.Effect<ReadonlyArray<FailedEvent>> =>
  Effect.orDie(Schema.decodeUnknown(Schema.Array(FailedEvent))(rows))

const decodeFailures = (rows: unknown): Effect.Effect<ReadonlyArray<BatchFailure>> =>
  Effect.orDie(Schema.decodeUnknown(Schema.Array(BatchFailure))(rows))

/** The condition on `failure`, a row of `outbox.batch_failure`. */
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

export const list =
  (sql: SqlClient.SqlClient) =>
  (
    filter: Filter,
    { after, limit = DEFAULT_LIMIT }: Page<FailureId> = {}
  ): Effect.Effect<ReadonlyArray<BatchFailure>, SqlError> =>
    sql`
      SELECT ${sql.literal(failureColumns)}
      FROM outbox.batch_failure_status AS failure
      WHERE ${matches(sql, filter)} AND ${after === undefined ? sql`true` : sql`failure.id < ${after}`}
      ORDER BY failure.id DESC
      LIMIT ${limit}
    `.pipe(Effect.flatMap(decodeFailures), Effect.withSpan("BatchFailures.list"))

export const get =
  (sql: SqlClient.SqlClient) =>
  (failureId: FailureId): Effect.Effect<BatchFailure, FailureNotFound | SqlError> =>
    sql`
      SELECT ${sql.literal(failureColumns)}
      FROM outbox.batch_failure_status AS failure
      WHERE failure.id = ${failureId}
    `.pipe(
      Effect.flatMap(decodeFailures),
      Effect.flatMap(Arr.head),
      Effect.catchTag("NoSuchElementException", () => new FailureNotFound({ failureId })),
      Effect.withSpan("BatchFailures.get")
    )

export const events =
  (sql: SqlClient.SqlClient) =>
  (
    failureId: FailureId,
    { after, limit = DEFAULT_LIMIT }: Page<number> = {}
  ): Effect.Effect<ReadonlyArray<FailedEvent>, SqlError> =>
    sql`
      SELECT ${sql.literal(eventColumns)}
      FROM outbox.batch_failure_event AS event
      WHERE event.failure_id = ${failureId} AND event.id > ${after ?? 0}
      ORDER BY event.id
      LIMIT ${limit}
    `.pipe(Effect.flatMap(decodeEvents), Effect.withSpan("BatchFailures.events"))

/** Of several under one id the one that a change would concern: the oldest that was not replayed yet. */
export const event =
  (sql: SqlClient.SqlClient) =>
  (failureId: FailureId, eventId: string): Effect.Effect<FailedEvent, FailedEventNotFound | SqlError> =>
    sql`
      SELECT ${sql.literal(eventColumns)}
      FROM outbox.batch_failure_event AS event
      WHERE event.failure_id = ${failureId} AND event.event_id::text = lower(${eventId})
      ORDER BY event.replayed_at NULLS FIRST, event.id
      LIMIT 1
    `.pipe(
      Effect.flatMap(decodeEvents),
      Effect.flatMap(Arr.head),
      Effect.catchTag("NoSuchElementException", () => new FailedEventNotFound({ failureId, eventId })),
      Effect.withSpan("BatchFailures.event")
    )
