/** What operators see of a failure, and why they may be told no. One Schema for SQL's rows, the command line and HTTP. */
import * as Schema from "effect/Schema"
import { BatchId, FailureId } from "../Batch.ts"
import { EventId } from "../Event.ts"
import { ErrorClass } from "../SinkError.ts"
import { column } from "./columns.ts"

export { FailureId }

/**
 * - `open`: its events are undelivered.
 * - `replayed`: all of them were published again.
 * - `resolved`: somebody took care of them in another way.
 * - `discarded`: somebody decided that they are not to be delivered.
 *
 * @since 0.1.0
 * @category models
 */
export const FailureState = Schema.Literal("open", "replayed", "resolved", "discarded")
export type FailureState = typeof FailureState.Type

/**
 * Events that ClickHouse refused: a row of `outbox.batch_failure_status`.
 *
 * @since 0.1.0
 * @category models
 */
export class BatchFailure extends Schema.Class<BatchFailure>("BatchFailure")({
  id: FailureId,
  state: FailureState,
  /** The batch that was refused. */
  batchId: column("batch_id", BatchId),
  /** The batch that was sealed; `batchId` came of splitting it, unless it is the same. */
  originBatchId: column("origin_batch_id", BatchId),
  eventCount: column("event_count", Schema.Int),
  /** How many of them were published again. */
  replayedCount: column("replayed_count", Schema.Int),
  /** How many of the others were corrected. */
  correctedCount: column("corrected_count", Schema.Int),
  eventTypes: column("event_types", Schema.Array(Schema.String)),
  /** Whether there may be good events among them: so many of the batch were refused that the rest was not examined. */
  parked: Schema.Boolean,
  errorClass: column("class", ErrorClass),
  /** ClickHouse's. */
  code: Schema.NullOr(Schema.Int),
  /** ClickHouse's own words. */
  message: Schema.String,
  firstSeenAt: column("first_seen_at", Schema.Date),
  lastSeenAt: column("last_seen_at", Schema.Date),
  /** How often its events were sent. */
  attempts: Schema.Int,
  /** The failure that its events were replayed from. */
  previousFailureId: column("previous_failure_id", Schema.NullOr(FailureId)),
  /** The newest failure that its events came back as when they were refused again, an open one if there is one. */
  nextFailureId: column("next_failure_id", Schema.NullOr(FailureId)),
  closedAt: column("closed_at", Schema.NullOr(Schema.Date)),
  /** Why it was resolved or discarded. */
  note: Schema.NullOr(Schema.String)
}) {}

/**
 * An event of a failure, whole.
 *
 * The context and the version are JSON as text, because JavaScript's numbers would change what ClickHouse refused:
 * {@link toJson} writes both as they are.
 *
 * @since 0.1.0
 * @category models
 */
export class FailedEvent extends Schema.Class<FailedEvent>("FailedEvent")({
  failureId: column("failure_id", FailureId),
  /** Its row's id: the order in which events were published. */
  id: Schema.Int,
  eventId: column("event_id", EventId),
  eventType: column("event_type", Schema.String),
  /** RFC 3339, to the microsecond. */
  eventDateTime: column("event_date_time", Schema.String),
  environment: Schema.String,
  eventContext: column("event_context", Schema.String),
  metadataVersion: column("metadata_version", Schema.String),
  traceparent: Schema.NullOr(Schema.String),
  /** RFC 3339, to the microsecond. */
  publishedAt: column("published_at", Schema.String),
  /** When it was changed last; null if it is what was refused, also because a correction was taken back. */
  correctedAt: column("corrected_at", Schema.NullOr(Schema.Date)),
  replayedAt: column("replayed_at", Schema.NullOr(Schema.Date))
}) {}

/**
 * An event as JSON, every digit of its context as it was published.
 *
 * @since 0.1.0
 * @category encoding
 */
export const toJson = (event: FailedEvent): string => {
  const { event_context, metadata_version, ...rest } = Schema.encodeSync(FailedEvent)(event)
  return `${JSON.stringify(rest).slice(0, -1)},"metadata_version":${metadata_version},"event_context":${event_context}}`
}

/**
 * What can be corrected about an event.
 *
 * @since 0.1.0
 * @category models
 */
export const CORRECTABLE = ["event_type", "event_date_time", "event_context", "metadata_version"] as const

/**
 * Which failures. Everything given must hold.
 *
 * @since 0.1.0
 * @category models
 */
export const Filter = Schema.Struct({
  /** One of these. */
  ids: Schema.optionalWith(Schema.Array(FailureId), { exact: true }),
  state: Schema.optionalWith(FailureState, { exact: true }),
  class: Schema.optionalWith(ErrorClass, { exact: true }),
  /** ClickHouse's error code. */
  code: Schema.optionalWith(Schema.Int, { exact: true }),
  /** One of its events has this type. */
  eventType: Schema.optionalWith(Schema.String, { exact: true }),
  /** Refused for the last time at this time or later. */
  since: Schema.optionalWith(Schema.DateFromSelf, { exact: true }),
  /** Refused for the last time before this. */
  until: Schema.optionalWith(Schema.DateFromSelf, { exact: true })
})
export type Filter = typeof Filter.Type

/**
 * What a replay came to.
 *
 * @since 0.1.0
 * @category models
 */
export class Replayed extends Schema.Class<Replayed>("Replayed")({
  /** That events were taken from. */
  failures: Schema.Array(FailureId),
  /** How many were published again. */
  events: Schema.Int
}) {}

/**
 * Of events that were replayed, how many have got where. What became of each, `Operations.where` says.
 *
 * @since 0.1.0
 * @category models
 */
export class Arrivals extends Schema.Class<Arrivals>("Arrivals")({
  /** On their way. */
  pending: Schema.Int,
  /** In ClickHouse. */
  delivered: Schema.Int,
  /** Refused again, and not replayed since. */
  failed: Schema.Int
}) {}

/**
 * @since 0.1.0
 * @category errors
 */
export class FailureNotFound extends Schema.TaggedError<FailureNotFound>()("FailureNotFound", {
  failureId: FailureId
}) {
  override get message(): string {
    return `There is no failure ${this.failureId}. Closed ones are deleted after OUTBOX_FAILURE_RETENTION`
  }
}

/**
 * @since 0.1.0
 * @category errors
 */
export class FailedEventNotFound extends Schema.TaggedError<FailedEventNotFound>()("FailedEventNotFound", {
  failureId: FailureId,
  eventId: EventId
}) {
  override get message(): string {
    return `Failure ${this.failureId} has no event ${this.eventId}`
  }
}

/**
 * Somebody has dealt with it already. Nothing was changed.
 *
 * @since 0.1.0
 * @category errors
 */
export class FailureClosed extends Schema.TaggedError<FailureClosed>()("FailureClosed", {
  failureId: FailureId,
  state: FailureState
}) {
  override get message(): string {
    return `Failure ${this.failureId} is ${this.state} already. Nothing was changed`
  }
}

/**
 * Only what was discarded or resolved can be taken back: what was replayed is on its way, and what is open is open.
 * Nothing was changed.
 *
 * @since 0.1.0
 * @category errors
 */
export class FailureNotReopened extends Schema.TaggedError<FailureNotReopened>()("FailureNotReopened", {
  failureId: FailureId,
  state: FailureState
}) {
  override get message(): string {
    return this.state === "replayed"
      ? `Failure ${this.failureId} cannot be reopened: all of its events were published again, which cannot be taken back. Nothing was changed`
      : `Failure ${this.failureId} is ${this.state} already. Nothing was changed`
  }
}

/**
 * The event was published again already: what is on its way cannot be changed. Nothing was changed here either.
 *
 * @since 0.1.0
 * @category errors
 */
export class EventReplayed extends Schema.TaggedError<EventReplayed>()("EventReplayed", {
  failureId: FailureId,
  eventId: EventId
}) {
  override get message(): string {
    return `Event ${this.eventId} of failure ${this.failureId} was replayed already. Nothing was changed`
  }
}

/**
 * One thing that is wrong with a correction.
 *
 * @since 0.1.0
 * @category errors
 */
export class CorrectionIssue extends Schema.Class<CorrectionIssue>("CorrectionIssue")({
  /** A column, perhaps with a path inside it; empty if it is the whole. */
  field: Schema.String,
  reason: Schema.String
}) {
  override toString(): string {
    return this.field === "" ? this.reason : `${this.field}: ${this.reason}`
  }
}

/**
 * What the event would become could not be published. Nothing was changed.
 *
 * @since 0.1.0
 * @category errors
 */
export class CorrectionInvalid extends Schema.TaggedError<CorrectionInvalid>()("CorrectionInvalid", {
  failureId: FailureId,
  eventId: EventId,
  issues: Schema.NonEmptyArray(CorrectionIssue)
}) {
  override get message(): string {
    return `Event ${this.eventId} was not changed. Correct and try again:\n  ${this.issues.join("\n  ")}`
  }
}
