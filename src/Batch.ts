/**
 * A batch: the unit that is sealed, leased, sent, de-duplicated and acknowledged.
 *
 * Which events it holds is defined, not marked, by two snapshots and two keys that are written down before anything is
 * sent. So it can be read again, by any relay, and is the same byte for byte.
 *
 * @since 0.1.0
 */
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { Bytes } from "./Config.ts"
import { EventId } from "./Event.ts"

/**
 * @since 0.1.0
 * @category models
 */
export const BatchId = Schema.Int.pipe(Schema.positive(), Schema.brand("BatchId"))
export type BatchId = typeof BatchId.Type

/**
 * Of the events of a batch that ClickHouse refused.
 *
 * @since 0.1.0
 * @category models
 */
export const FailureId = Schema.Int.pipe(Schema.positive(), Schema.brand("FailureId"))
export type FailureId = typeof FailureId.Type

/** Postgres' own notations. They go into COPY statements, which take no parameters, so they are checked here. */
const Snapshot = Schema.String.pipe(Schema.pattern(/^\d+:\d+:[\d,]*$/), Schema.brand("Snapshot"))
const TransactionId = Schema.String.pipe(Schema.pattern(/^\d+$/), Schema.brand("TransactionId"))
const RowId = Schema.String.pipe(Schema.pattern(/^\d+$/), Schema.brand("RowId"))

/** `YYYY-MM-DD hh:mm:ss.ffffff`, UTC: to the microsecond, which a JavaScript Date is not. */
const Timestamp = Schema.String.pipe(Schema.brand("Timestamp"))

/**
 * A row of the manifest, as it was sealed. Immutable.
 *
 * @since 0.1.0
 * @category models
 */
export class Batch extends Schema.Class<Batch>("Batch")({
  id: BatchId,
  /** ClickHouse's `insert_deduplication_token` for the batch. */
  token: Schema.UUID,
  fromSnapshot: Snapshot,
  toSnapshot: Snapshot,
  firstTxId: TransactionId,
  firstId: RowId,
  lastTxId: TransactionId,
  lastId: RowId,
  eventCount: Schema.Int,
  /** Of the events' contexts. */
  byteCount: Bytes,
  /** The slots that its rows are in, or may be. */
  slots: Schema.NonEmptyArray(Schema.Int),
  eventTypes: Schema.Array(Schema.String),
  /** Whether the events of other types between its keys are another batch's. */
  byType: Schema.Boolean,
  firstEventDateTime: Timestamp,
  lastEventDateTime: Timestamp,
  /** When its oldest event was published. */
  firstPublishedAt: Schema.DateFromNumber,
  /** Of up to 32 of its events. */
  traceparents: Schema.Array(Schema.String),
  sealedAt: Schema.DateFromNumber
}) {}

/**
 * Events that ClickHouse was found to lack, and the token they are sent again under.
 *
 * @since 0.1.0
 * @category models
 */
export class Repair extends Schema.Class<Repair>("Repair")({
  token: Schema.UUID,
  eventIds: Schema.NonEmptyArray(EventId)
}) {}

/**
 * One worker's exclusive right to deliver a batch, for a time that it must renew.
 *
 * @since 0.1.0
 * @category models
 */
export class Lease extends Schema.Class<Lease>("Lease")({
  batch: Batch,
  leaseId: Schema.UUID,
  /** This attempt's number, from 1. */
  attempt: Schema.Int,
  /** Whether an earlier attempt may have been written, or may still be. */
  inDoubt: Schema.Boolean,
  /** Whether ClickHouse may have some of it whatever is known of attempts: none of its tokens is trusted. */
  askFirst: Schema.Boolean,
  /** Whether it was delivered before, and ClickHouse was found to lack events of it. Rows of it may be gone. */
  wasRequeued: Schema.Boolean,
  /** Whether it was taken from a worker that went silent. */
  expired: Schema.Boolean,
  repair: Schema.OptionFromSelf(Repair)
}) {
  /** What logs and spans say about it. */
  get attributes(): Record<string, unknown> {
    return {
      "batch.id": this.batch.id,
      "batch.event_count": this.batch.eventCount,
      "batch.byte_count": this.batch.byteCount,
      "batch.attempt": this.attempt,
      "batch.in_doubt": this.inDoubt,
      ...(Option.isSome(this.repair) ? { "batch.repair_count": this.repair.value.eventIds.length } : {})
    }
  }
}
