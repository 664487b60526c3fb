/** What the outbox answers with, and the ways in which it fails. */
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import * as Schema from "effect/Schema"
import { type Batch, BatchId } from "../Batch.ts"
import { column } from "../Row.ts"

/**
 * Another worker holds the batch now, because this one had not renewed its lease in time. Nothing is lost: the other
 * repeats the batch identically.
 *
 * @since 0.1.0
 * @category errors
 */
export class LeaseLost extends Schema.TaggedError<LeaseLost>()("LeaseLost", {
  batchId: BatchId,
  leaseId: Schema.UUID
}) {
  override get message(): string {
    return `Lease ${this.leaseId} of batch ${this.batchId} has run out and was taken over: another worker repeats the batch`
  }
}

/**
 * The outbox does not hold what the manifest says: rows of a sealed batch were deleted, changed or added by hand.
 *
 * @since 0.1.0
 * @category errors
 */
export class BatchChanged extends Schema.TaggedError<BatchChanged>()("BatchChanged", {
  batchId: BatchId,
  expected: Schema.Int,
  actual: Schema.Int
}) {
  override get message(): string {
    return `Batch ${this.batchId} was sealed with ${this.expected} events, but outbox.event now holds ${this.actual} of them. Nothing of it is sent. Restore the rows; outbox.event is append-only`
  }
}

/**
 * The database was moved to another cluster, as by dump and restore: its stored transaction ids mean nothing here.
 *
 * @since 0.1.0
 * @category errors
 */
export class ForeignCluster extends Schema.TaggedError<ForeignCluster>()("ForeignCluster", {
  expected: Schema.String,
  actual: Schema.String
}) {
  override get message(): string {
    return `The outbox's transaction ids are of ${this.expected}, but this is ${this.actual}. Was the database restored from a dump, or upgraded? Stop all relays and run "clickhouse-outbox restamp", then start them again`
  }
}

/**
 * What an attempt to seal came to.
 *
 * @since 0.1.0
 * @category models
 */
export type Sealed = Data.TaggedEnum<{
  /** A batch was written to the manifest. There may be more to seal. */
  Batch: { readonly batch: Batch }
  /** There are events, but they may still wait for others: look again after `dueIn`. */
  Waiting: { readonly dueIn: Duration.Duration }
  /** Every event that was committed is in a batch. */
  Nothing: { readonly transactionsInProgress: boolean }
  /** Another relay is sealing. */
  Busy: Record<never, never>
}>
export const Sealed = Data.taggedEnum<Sealed>()

/**
 * How far things have moved: where nothing moved, nothing needs to be looked at.
 *
 * @since 0.1.0
 * @category models
 */
export interface Position {
  /** Ids given to events, committed or not. */
  readonly events: number
  /** Ids given to batches. */
  readonly batches: number
  /** Moves whenever a transaction ends that has written anything, anywhere in the cluster. */
  readonly transactions: string
}

/**
 * What may have made ClickHouse forget a batch's token.
 *
 * @since 0.1.0
 * @category models
 */
export interface SinceFirstAttempt {
  /** At most so many parts were inserted, this batch's own included: ClickHouse stores one, and its token, per month. */
  readonly parts: number
  readonly elapsed: Duration.Duration
}

/**
 * What ClickHouse has refused so far of the batch that was sealed, of which this one may be a part.
 *
 * @since 0.1.0
 * @category models
 */
export interface Refusals {
  /** At least so many of its events. */
  readonly refused: number
  /** Whether an event that ClickHouse had named was then accepted. */
  readonly acquitted: boolean
}

/**
 * Somebody has told all relays to take no batch.
 *
 * @since 0.1.0
 * @category models
 */
export class RelayPause extends Schema.Class<RelayPause>("RelayPause")({
  pausedBy: column("paused_by", Schema.String),
  reason: Schema.String,
  pausedAt: column("paused_at", Schema.Date)
}) {}

/**
 * What there is to wait for.
 *
 * @since 0.1.0
 * @category models
 */
export class Outstanding extends Schema.Class<Outstanding>("Outstanding")({
  /** Whether a batch is sealed and undelivered. */
  batches: Schema.Boolean,
  relayPause: Schema.NullOr(RelayPause)
}) {}

/**
 * What became of the slots.
 *
 * @since 0.1.0
 * @category models
 */
export interface Reclaimed {
  /** The slots whose events were all delivered and kept for long enough: they are empty now. */
  readonly emptied: ReadonlyArray<number>
  /** Where new events go from now on, if that is elsewhere. */
  readonly movedTo: number | null
}

const Counts = Schema.Record({ key: Schema.String, value: Schema.Number })

/**
 * What relays measure of the outbox.
 *
 * @since 0.1.0
 * @category models
 */
export class Observation extends Schema.Class<Observation>("Observation")({
  /**
   * Events committed and not yet delivered, by the sequence of their ids. Ids of transactions that are open or were rolled
   * back count too, until the sealer has looked when none was open, or has sealed; events of transactions that were open
   * when the last batch was sealed are missing until they are. Of a batch that was requeued those
   * count that ClickHouse was found to lack.
   */
  backlogEvents: Schema.Number,
  /** How long the oldest of them has waited, since it was published or requeued; 0 if there is none. */
  oldestUndeliveredMillis: Schema.Number,
  /** Of those that are not in a batch. */
  oldestUnsealedMillis: Schema.Number,
  /** By their states in `outbox.batch_status`; a state that has none is missing. */
  undeliveredBatches: Counts,
  openFailures: Schema.Int,
  /** Those that were not replayed yet. */
  openFailureEvents: Schema.Int,
  /** By class of error; a class that has none is missing. */
  openIncidents: Counts,
  relayPaused: Schema.Boolean,
  /** Bytes on disk, by slot. */
  slotBytes: Counts
}) {}
