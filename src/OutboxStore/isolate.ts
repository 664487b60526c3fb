/**
 * What becomes of a batch that ClickHouse refuses: smaller batches, or a failure. Each is one transaction that locks the
 * batch under its lease first, so that only who holds the lease changes anything, and all of it or nothing.
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { type Batch, BatchId, FailureId, type Lease } from "../Batch.ts"
import type { SinkError } from "../SinkError.ts"
import { PLAN_SETTINGS, rows } from "../schema/rows.ts"
import { atomically } from "../Transaction.ts"
import { cut, type Part } from "./cut.ts"
import { failedBecause, isOwner, orLost } from "./held.ts"
import { closeIncidents } from "./incident.ts"
import { BatchChanged, type LeaseLost, type Refusals } from "./model.ts"

/** On disk before anything is sent: children that were delivered and then forgotten would be cut anew, and doubled. */
export const SETTINGS = `
  SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
  SET LOCAL statement_timeout = 0;
  SET LOCAL synchronous_commit = on;
  ${PLAN_SETTINGS}`

export const refusals =
  (sql: SqlClient.SqlClient) =>
  ({ batch }: Lease): Effect.Effect<Refusals, SqlError> =>
    // Of ranges within each other only the smallest count, so the number never exceeds that of the events refused.
    // Other workers may be isolating parts of the same batch: then it is a little behind.
    sql<Refusals>`
      WITH origin AS (
        SELECT coalesce(origin_id, id) AS id FROM outbox.batch WHERE id = ${batch.id}
      ),
      family AS (
        SELECT id, parent_id, state, suspect FROM outbox.batch WHERE id = (SELECT id FROM origin)
        UNION ALL
        SELECT id, parent_id, state, suspect FROM outbox.batch WHERE origin_id = (SELECT id FROM origin)
      ),
      refused AS (
        SELECT id, parent_id FROM family WHERE state IN ('split', 'failed') OR (suspect AND state = 'pending')
      )
      SELECT
        (
          SELECT count(*)::integer
          FROM refused
          WHERE NOT EXISTS (SELECT FROM refused AS part WHERE part.parent_id = refused.id)
        ) AS refused,
        EXISTS (SELECT FROM family WHERE suspect AND state = 'delivered') AS "suspectWasGood"
    `.pipe(Effect.flatMap((rows) => Effect.orDie(Arr.head(rows))))

export interface Split {
  readonly error: SinkError
  /** Position of the event that ClickHouse named, from 1. Without one, or beyond the batch, the batch is halved. */
  readonly suspect: Option.Option<number>
}

export const split =
  (sql: SqlClient.SqlClient) =>
  (
    lease: Lease,
    { error, suspect }: Split
  ): Effect.Effect<ReadonlyArray<BatchId>, BatchChanged | LeaseLost | SqlError> =>
    Effect.gen(function* () {
      const { batch } = lease
      const parts = cut(batch.eventCount, suspect)
      const { children, endsIncident } = yield* Effect.gen(function* () {
        const inserted = yield* Effect.flatMap(insertParts(sql, lease, error, parts), orLost(lease))
        if (inserted.children.length !== parts.length) return yield* changed(sql, batch)
        return inserted
      }).pipe(atomically(sql, SETTINGS))
      yield* Effect.when(closeIncidents(sql), () => endsIncident)
      return yield* Effect.orDie(Schema.decode(Schema.Array(BatchId))(children))
    }).pipe(Effect.withSpan("OutboxStore.split"))

/**
 * Reads the keys up to the first of the last part: where that ends is known, and what it weighs is what is left. One
 * statement, so that a batch which is not the lease's any more has no parent to insert parts of. The last part is the
 * first to be leased: it is the likeliest to be cut again.
 */
const insertParts = (sql: SqlClient.SqlClient, lease: Lease, error: SinkError, parts: ReadonlyArray<Part>) => {
  const limit = Math.max(...parts.map(({ first }) => first))
  return sql<{ children: ReadonlyArray<string>; endsIncident: boolean }>`
    WITH parent AS (
      UPDATE outbox.batch SET
        state = 'split',
        lease_id = NULL,
        settled_attempts = settled_attempts + 1,
        ${failedBecause(sql, error)}
      WHERE ${isOwner(sql, lease)}
      RETURNING *
    ),
    part AS (
      SELECT *
      FROM unnest(
        ${parts.map(({ first }) => first)}::integer[],
        ${parts.map(({ last }) => last)}::integer[],
        ${parts.map(({ suspect }) => suspect)}::boolean[]
      ) AS part (first, last, suspect)
    ),
    key AS MATERIALIZED (
      SELECT *
      FROM (
        SELECT tx_id, id, row_number() OVER keys AS position, sum(context_bytes) OVER keys AS bytes
        FROM (${sql.literal(rows(lease.batch, "tx_id, id, context_bytes", { limit }))}) AS events
        WINDOW keys AS (ORDER BY tx_id, id ROWS UNBOUNDED PRECEDING)
      ) AS numbered
      WHERE position IN (SELECT first FROM part UNION ALL SELECT first - 1 FROM part)
    ),
    child AS (
      INSERT INTO outbox.batch (
        from_snapshot, to_snapshot, first_tx_id, first_id, last_tx_id, last_id, event_count, byte_count, slots,
        event_types, first_event_date_time, last_event_date_time, first_published_at, traceparents, sealed_at,
        parent_id, origin_id, suspect, attempts_before, first_error_at
      )
      SELECT
        parent.from_snapshot, parent.to_snapshot,
        first.tx_id, first.id, coalesce(last.tx_id, parent.last_tx_id), coalesce(last.id, parent.last_id),
        part.last - part.first + 1, coalesce(last.bytes, parent.byte_count) - coalesce(before.bytes, 0),
        parent.slots, parent.event_types, parent.first_event_date_time, parent.last_event_date_time, parent.first_published_at,
        parent.traceparents, parent.sealed_at,
        parent.id, coalesce(parent.origin_id, parent.id), part.suspect, parent.attempts_before + parent.attempts,
        parent.first_error_at
      FROM parent
      CROSS JOIN part
      JOIN key AS first ON first.position = part.first
      LEFT JOIN key AS before ON before.position = part.first - 1
      LEFT JOIN key AS last ON last.position = part.last
      ORDER BY part.first DESC
      RETURNING id
    )
    SELECT ARRAY(SELECT id::text FROM child ORDER BY child.id) AS children, incident_id IS NOT NULL AS "endsIncident"
    FROM parent
  `
}

export interface Fail {
  readonly error: SinkError
  /** Whether its events were not examined one by one, because too many of its origin's had been refused. */
  readonly parked: boolean
}

export const fail =
  (sql: SqlClient.SqlClient) =>
  (lease: Lease, failure: Fail): Effect.Effect<FailureId, BatchChanged | LeaseLost | SqlError> =>
    Effect.gen(function* () {
      const { endsIncident, id } = yield* Effect.gen(function* () {
        const failed = yield* Effect.flatMap(insertFailure(sql, lease, failure), orLost(lease))
        yield* copyEvents(sql, lease.batch, failed.id)
        return failed
      }).pipe(atomically(sql, SETTINGS))
      yield* Effect.when(closeIncidents(sql), () => endsIncident)
      return FailureId.make(Number(id))
    }).pipe(Effect.withSpan("OutboxStore.fail"))

/**
 * One statement, so that a batch which is not the lease's any more makes no failure. What an operator has replayed comes
 * back as a new event under the same id.
 */
const insertFailure = (sql: SqlClient.SqlClient, lease: Lease, { error, parked }: Fail) =>
  sql<{ id: string; endsIncident: boolean }>`
    WITH failed AS (
      UPDATE outbox.batch SET
        state = 'failed',
        lease_id = NULL,
        settled_attempts = settled_attempts + 1,
        ${failedBecause(sql, error)}
      WHERE ${isOwner(sql, lease)}
      RETURNING *
    ),
    failure AS (
      INSERT INTO outbox.batch_failure (
        batch_id, origin_batch_id, event_count, parked, error_class, error_code, error_message,
        first_seen_at, last_seen_at, attempts, previous_failure_id
      )
      SELECT
        id, coalesce(origin_id, id), event_count, ${parked}, error_class, error_code, error_message,
        first_error_at, clock_timestamp(), attempts_before + attempts,
        (
          SELECT max(failure_id)
          FROM outbox.batch_failure_event
          WHERE replayed_at IS NOT NULL AND event_id IN (${sql.literal(rows(lease.batch, "event_id"))})
        )
      FROM failed
      RETURNING id
    )
    SELECT failure.id::text, failed.incident_id IS NOT NULL AS "endsIncident" FROM failure, failed
  `

const EVENT_COLUMNS = `
  tx_id, id, slot, event_id, event_type, event_date_time, environment, event_context, context_bytes, metadata_version,
  traceparent, published_at`

/** The batch's row is locked since it was marked, and its events are never changed: all of them are copied, or none. */
const copyEvents = (sql: SqlClient.SqlClient, batch: Batch, failureId: string) =>
  sql<{ copied: number }>`
    WITH copy AS (
      INSERT INTO outbox.batch_failure_event (failure_id, ${sql.literal(EVENT_COLUMNS)})
      ${sql.literal(rows(batch, `${failureId}, ${EVENT_COLUMNS}`))}
      RETURNING id
    )
    SELECT count(*)::integer AS copied FROM copy
  `.pipe(Effect.flatMap(([row]) => (row?.copied === batch.eventCount ? Effect.void : changed(sql, batch))))

export const changed = (sql: SqlClient.SqlClient, batch: Batch): Effect.Effect<never, BatchChanged | SqlError> =>
  sql<{ actual: number }>`
    SELECT count(*)::integer AS actual FROM (${sql.literal(rows(batch, "event_id"))}) AS events
  `.pipe(
    Effect.flatMap(
      ([row]) => new BatchChanged({ batchId: batch.id, expected: batch.eventCount, actual: row?.actual ?? 0 })
    )
  )
