/** What the outbox answers with, and the ways in which it fails. */
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import * as Schema from "effect/Schema"
import { type Batch, BatchId } from "../Batch.ts"

/**
 * Another worker has the batch now, because this one had not renewed its lease in time. Nothing is lost: the other
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
 * How far the outbox has moved. Where nothing moved, there is nothing to look for.
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
  /**
   * At most so many parts were inserted, this batch's own included: ClickHouse stores one, and its token, per month.
   */
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
  /** Whether ClickHouse took an event that it had named in a refusal. */
  readonly suspectWasGood: boolean
  /** How many batches it has become so far, with those that were split again. */
  readonly batches: number
}

/**
 * The types of a batch's events, by what is known of others of the batch that was sealed.
 *
 * @since 0.1.0
 * @category models
 */
export interface Kinds {
  /** Of which an event was refused, or is the one that the last refusal names. */
  readonly suspected: ReadonlyArray<string>
  readonly others: ReadonlyArray<string>
}

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
