/** Reading batches, incidents, and where an event is. Each function is one statement, and so one snapshot. */
import type * as SqlClient from "@effect/sql/SqlClient"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { BatchId } from "../Batch.ts"
import type { EventId } from "../Event.ts"
import { DEFAULT_LIMIT, firstRowOf, type Page, rfc3339, rowsOf } from "../schema/columns.ts"
import {
  BatchNotFound,
  type BatchState,
  BatchStatus,
  EventNotFound,
  Incident,
  Place,
  Whereabouts
} from "../schema/deliveries.ts"

/** Which batches. Everything given must hold. */
export interface BatchFilter {
  readonly state?: BatchState | undefined
  /** The batch that was sealed: itself, and all that came of splitting it. */
  readonly originId?: BatchId | undefined
  /** The batch that was split into them. */
  readonly parentId?: BatchId | undefined
}

export interface IncidentFilter {
  readonly state?: Incident["state"] | undefined
}

export const make = (sql: SqlClient.SqlClient) => ({
  batches: Effect.fn("Operations.batches")(
    ({ originId, parentId, state }: BatchFilter, { after, limit = DEFAULT_LIMIT }: Page<BatchId> = {}) =>
      sql`
        SELECT ${sql.literal(BATCH_COLUMNS)}
        FROM outbox.batch_status AS batch
        WHERE ${state === undefined ? sql`true` : sql`state = ${state}`}
          AND ${isPending(state) ? sql`id IN (SELECT id FROM outbox.batch WHERE state = 'pending')` : sql`true`}
          AND ${originId === undefined ? sql`true` : sql`(id = ${originId} OR origin_id = ${originId})`}
          AND ${parentId === undefined ? sql`true` : sql`parent_id = ${parentId}`}
          AND ${after === undefined ? sql`true` : sql`id < ${after}`}
        ORDER BY id DESC
        LIMIT ${limit}
      `.pipe(rowsOf(BatchStatus))
  ),

  batch: Effect.fn("Operations.batch")((batchId: BatchId) =>
    sql`SELECT ${sql.literal(BATCH_COLUMNS)} FROM outbox.batch_status AS batch WHERE id = ${batchId}`.pipe(
      firstRowOf(BatchStatus),
      Effect.flatMap(Option.match({ onNone: () => new BatchNotFound({ batchId }), onSome: Effect.succeed }))
    )
  ),

  incidents: Effect.fn("Operations.incidents")(
    ({ state }: IncidentFilter = {}, { after, limit = DEFAULT_LIMIT }: Page<number> = {}) =>
      sql`
        SELECT
          id::float8 AS id,
          state,
          error_class AS class,
          error_code AS code,
          error_message AS message,
          ${sql.literal(rfc3339("began_at"))} AS began_at,
          ${sql.literal(rfc3339("opened_at"))} AS opened_at,
          ${sql.literal(rfc3339("last_seen_at"))} AS last_seen_at,
          ${sql.literal(rfc3339("closed_at"))} AS closed_at,
          attempts,
          batch_ids::float8[] AS batch_ids
        FROM outbox.incident_status
        WHERE ${state === undefined ? sql`true` : sql`state = ${state}`}
          AND ${after === undefined ? sql`true` : sql`id < ${after}`}
        ORDER BY id DESC
        LIMIT ${limit}
      `.pipe(rowsOf(Incident))
  ),

  /**
   * Reads the whole outbox, which has no index on event ids: publishers would pay for one with every event. A failure's
   * events have one, and outlive their rows in the outbox.
   */
  where: Effect.fn("Operations.where")(function* (eventId: EventId) {
    yield* Effect.annotateCurrentSpan("event.id", eventId)
    // One statement, one snapshot: an event that is replayed meanwhile is seen before it or after it.
    const places = yield* sql`
      WITH published AS MATERIALIZED (
        SELECT * FROM outbox.event_status WHERE event_id = ${eventId}::uuid
      ),
      failed AS (
        SELECT * FROM outbox.failed_event WHERE event_id = ${eventId}::uuid
      )
      SELECT
        CASE
          WHEN failed.failure_id IS NOT NULL OR published.status = 'FAILED' THEN 'failed'
          WHEN published.status = 'COMPLETED' THEN 'delivered'
          ELSE 'pending'
        END AS state,
        batch_id::float8 AS batch_id,
        batch.state AS batch_state,
        failed.failure_id::float8 AS failure_id,
        failed.state AS failure_state,
        coalesce(published.event_type, failed.event_type) AS event_type,
        ${sql.literal(rfc3339("coalesce(published.event_date_time, failed.event_date_time)"))} AS event_date_time,
        ${sql.literal(rfc3339("published_at"))} AS published_at,
        ${sql.literal(rfc3339("published.delivered_at"))} AS delivered_at,
        ${sql.literal(rfc3339("failed.replayed_at"))} AS replayed_at
      FROM published
      FULL JOIN failed USING (batch_id, published_at)
      LEFT JOIN outbox.batch_status AS batch ON batch.id = batch_id
      ORDER BY published_at DESC
    `.pipe(rowsOf(Place))
    if (!Arr.isNonEmptyReadonlyArray(places)) return yield* new EventNotFound({ eventId })
    return new Whereabouts({ eventId, state: stateOf(Arr.headNonEmpty(places)), places })
  })
})

const BATCH_COLUMNS = `
  id::float8 AS id,
  state,
  event_count,
  byte_count::float8 AS byte_count,
  attempts,
  error_class AS class,
  error_code AS code,
  error_message AS message,
  ${rfc3339("sealed_at")} AS sealed_at,
  ${rfc3339("first_error_at")} AS first_error_at,
  CASE WHEN state IN ('leased', 'retrying', 'blocked') THEN ${rfc3339("available_at")} END AS available_at,
  ${rfc3339("delivered_at")} AS delivered_at,
  lease_owner,
  parent_id::float8 AS parent_id,
  origin_id::float8 AS origin_id,
  incident_id::float8 AS incident_id,
  (SELECT failure.id::float8 FROM outbox.batch_failure AS failure WHERE failure.batch_id = batch.id) AS failure_id,
  token`

/** Stored as `pending`, told apart by more; the index on it knows that they are few. */
const isPending = (state: BatchState | undefined): boolean =>
  state !== undefined && !["delivered", "split", "failed"].includes(state)

/** What was replayed and is not in the outbox was delivered since, and its row removed. */
const stateOf = ({ replayedAt, state }: Place): Place["state"] => (replayedAt === null ? state : "delivered")
