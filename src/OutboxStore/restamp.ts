/** Repairs the outbox of a database that was restored, copied or moved, where its transaction ids mean nothing. */
import * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { BatchId } from "../Batch.ts"
import { SEARCH_PATH, stating } from "../internal/meaning.ts"
import { rowOf, rowsOf } from "../schema/columns.ts"
import { HERE, type NotMigrated, ORIGIN, requireOutbox } from "../schema/compatibility.ts"
import { EVENT_COLUMNS, type Range } from "../schema/events.ts"
import { type TransactionFailed, transaction } from "../Transaction.ts"
import { BatchChanged } from "./model.ts"
import { doubtPending } from "./Sealing.ts"

const Snapshot = Schema.Struct({ now: Schema.String })
const Counted = Schema.Struct({ events: Schema.Int, batches: Schema.Int })
const Changed = Schema.Struct({ batchId: BatchId, expected: Schema.Int, actual: Schema.Int })

/** A row keeps its slot. */
const COLUMNS = `slot, ${EVENT_COLUMNS}`

/** What {@link restamp} found. */
export interface Restamped {
  /** Events in the outbox, sealed or not. */
  readonly events: number
  /** Batches, whose tokens and bytes stay as they were. */
  readonly batches: number
}

/**
 * Gives every event and every batch transaction ids that are valid here, and makes the outbox this database's own.
 *
 * Which events a batch holds, their order and its token stay the same, so a batch that ClickHouse already has is
 * recognised. Every other event is sealed next, also what was published since the move. Happens whole or not at all;
 * publishers wait meanwhile. Relays must be stopped.
 *
 * @since 0.1.0
 * @category repairs
 */
export const restamp: Effect.Effect<
  Restamped,
  BatchChanged | NotMigrated | SqlError | TransactionFailed,
  SqlClient.SqlClient
> = Effect.gen(function* () {
  const sql = (yield* SqlClient.SqlClient).withoutTransforms()
  yield* requireOutbox(sql)
  return yield* Effect.gen(function* () {
    yield* sql.unsafe(
      stating(`SET LOCAL search_path = ${SEARCH_PATH}; SET TRANSACTION ISOLATION LEVEL READ COMMITTED READ WRITE`)
    )
    // One after the other, the sealer first: whoever seals has it before the others, and is waited for. Not ACCESS
    // EXCLUSIVE, which would give this transaction an id: the snapshot must be older than the id, so that what is stamped
    // with the id falls into the window that begins with the snapshot.
    yield* sql`LOCK TABLE outbox.sealer, outbox.event, outbox.batch IN EXCLUSIVE MODE`
    const snapshot = yield* rowOf(Snapshot)(sql`SELECT pg_current_snapshot()::text AS now`)
    yield* collectSealed(sql)
    yield* requireWhole(sql)
    yield* collectUnsealed(sql)
    yield* sql`TRUNCATE outbox.event`
    const columns = sql.literal(COLUMNS)
    yield* sql`
      INSERT INTO outbox.event (tx_id, id, ${columns})
      SELECT coalesce(tx_id, pg_current_xact_id()), id, ${columns}
      FROM restamped
    `
    yield* sql`
      UPDATE outbox.batch SET
        from_snapshot = '1:1:',
        to_snapshot = '2:2:',
        first_tx_id = '1',
        first_id = keys.first_id,
        last_tx_id = '1',
        last_id = keys.last_id
      FROM (SELECT batch_id, min(id) AS first_id, max(id) AS last_id FROM restamped GROUP BY batch_id) AS keys
      WHERE batch.id = keys.batch_id
    `
    // Of those whose events are gone: what is published here must not be taken for theirs.
    yield* sql`
      UPDATE outbox.batch SET
        from_snapshot = '1:1:',
        to_snapshot = '1:1:',
        first_tx_id = '0',
        first_id = 0,
        last_tx_id = '0',
        last_id = 0
      WHERE NOT EXISTS (SELECT FROM restamped WHERE restamped.batch_id = batch.id)
    `
    yield* sql`
      UPDATE outbox.sealer SET
        (${sql.literal(ORIGIN)}) = ${sql.literal(HERE)},
        timeline = outbox.current_timeline(),
        -- Of this transaction are the events that are sealed next.
        doubt_before = (pg_current_xact_id()::text::bigint + 1)::text::xid8,
        doubted_at = clock_timestamp(),
        sealed_snapshot = ${snapshot.now}::pg_snapshot,
        window_snapshot = NULL,
        cursor_tx_id = NULL,
        cursor_id = NULL
    `
    // What was restored may be older than what was delivered.
    yield* doubtPending(sql)
    const counted: Restamped = yield* rowOf(Counted)(sql`
      SELECT count(*)::float8 AS events, count(DISTINCT batch_id)::float8 AS batches FROM restamped
    `)
    return counted
  }).pipe(transaction)
}).pipe(Effect.withSpan("OutboxStore.restamp"))

/**
 * Postgres does not push comparisons of rows into a UNION ALL: it would read a window whole for each of its batches.
 */
const within = (events: Range, first: string): string => `
  SELECT *
  FROM outbox.${events}(batch.from_snapshot, batch.to_snapshot)
  WHERE (tx_id, id) >= (${first}) AND (tx_id, id) <= (batch.last_tx_id, batch.last_id)
    AND (NOT batch.by_type OR event_type::text = ANY (batch.event_types))`

const XMAX = "pg_snapshot_xmax(batch.from_snapshot)"

const MEMBERS = [
  within("window_late_events", "batch.first_tx_id, batch.first_id"),
  // An index scan begins at this row, which must not be of a transaction before the range; see `schema/events.ts`.
  within(
    "window_new_events",
    `greatest(batch.first_tx_id, ${XMAX}), CASE WHEN batch.first_tx_id >= ${XMAX} THEN batch.first_id ELSE 0 END`
  )
].join(" UNION ALL ")

/**
 * Sealed events, in the batches that hold them now: all of them under transaction 1, which is older than any, and
 * numbered through in the order of their batches. Membership is computed from stored values alone, so it comes out as
 * on the old cluster. What was published since the move can have an id of the old cluster's; it is told by its time,
 * which is after the batch was sealed.
 */
const collectSealed = (sql: SqlClient.SqlClient) => sql`
  CREATE TEMPORARY TABLE restamped ON COMMIT DROP AS
  SELECT
    '1'::xid8 AS tx_id,
    row_number() OVER (ORDER BY batch.id, events.tx_id, events.id) AS id,
    events.tx_id AS old_tx_id,
    events.id AS old_id,
    batch.id AS batch_id,
    ${sql.literal(COLUMNS)}
  FROM outbox.batch, LATERAL (${sql.literal(MEMBERS)}) AS events
  WHERE events.published_at <= batch.sealed_at AND batch.state <> 'split'
`

/** A batch that is to be delivered for the first time must come out as it was sealed, or nothing is changed. */
const requireWhole = (sql: SqlClient.SqlClient): Effect.Effect<void, BatchChanged | SqlError> =>
  sql`
    SELECT batch.id::float8 AS "batchId", batch.event_count AS expected, count(restamped.id)::integer AS actual
    FROM outbox.batch
    LEFT JOIN restamped ON restamped.batch_id = batch.id
    WHERE batch.state = 'pending' AND was_delivered_at IS NULL
    GROUP BY batch.id
    HAVING count(restamped.id) <> batch.event_count
    LIMIT 1
  `.pipe(
    rowsOf(Changed),
    Effect.flatMap(([changed]) => (changed === undefined ? Effect.void : new BatchChanged(changed)))
  )

/** Every other event, whichever cluster it was published on: sealed anew, as if this transaction had published it. */
const collectUnsealed = (sql: SqlClient.SqlClient) => sql`
  INSERT INTO restamped (id, ${sql.literal(COLUMNS)})
  SELECT id, ${sql.literal(COLUMNS)}
  FROM outbox.event
  WHERE NOT EXISTS (
    SELECT FROM restamped AS sealed WHERE sealed.old_tx_id = event.tx_id AND sealed.old_id = event.id
  )
`
