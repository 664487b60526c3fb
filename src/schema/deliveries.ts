/**
 * How deliveries go: batches, the incidents that delay them, and where an event is. One Schema for SQL's rows, the command
 * line and HTTP.
 */
import * as Schema from "effect/Schema"
import { BatchId, FailureId } from "../Batch.ts"
import { EventId } from "../Event.ts"
import { ErrorClass } from "../SinkError.ts"
import { column } from "./columns.ts"
import { FailureState } from "./failures.ts"

/**
 * `sealed`, `leased`, `retrying` and `blocked` are undelivered; `split` became other batches, `failed`
 * became a failure.
 *
 * @since 0.1.0
 * @category models
 */
export const BatchState = Schema.Literal("sealed", "leased", "retrying", "blocked", "delivered", "split", "failed")
export type BatchState = typeof BatchState.Type

/**
 * A batch as people speak of it: a row of `outbox.batch_status`.
 *
 * @since 0.1.0
 * @category models
 */
export class BatchStatus extends Schema.Class<BatchStatus>("BatchStatus")({
  id: BatchId,
  state: BatchState,
  eventCount: column("event_count", Schema.Int),
  /** Of the events' contexts. */
  byteCount: column("byte_count", Schema.Number),
  attempts: Schema.Int,
  /** Of the last attempt that failed. */
  errorClass: column("class", Schema.NullOr(ErrorClass)),
  code: Schema.NullOr(Schema.Int),
  message: Schema.NullOr(Schema.String),
  sealedAt: column("sealed_at", Schema.Date),
  firstErrorAt: column("first_error_at", Schema.NullOr(Schema.Date)),
  /** When it may be tried next, or when its lease ends; null if it is neither waiting nor leased. */
  availableAt: column("available_at", Schema.NullOr(Schema.Date)),
  deliveredAt: column("delivered_at", Schema.NullOr(Schema.Date)),
  leaseOwner: column("lease_owner", Schema.NullOr(Schema.String)),
  /** The batch that was split into this one and others. */
  parentId: column("parent_id", Schema.NullOr(BatchId)),
  /** The batch that was sealed, and split until this one came of it. */
  originId: column("origin_id", Schema.NullOr(BatchId)),
  incidentId: column("incident_id", Schema.NullOr(Schema.Int)),
  /** The failure that it became. */
  failureId: column("failure_id", Schema.NullOr(FailureId)),
  /** ClickHouse's `insert_deduplication_token`. */
  token: Schema.UUID
}) {}

/**
 * One appearance of an event: in the outbox, in a failure, or in both.
 *
 * @since 0.1.0
 * @category models
 */
export class Place extends Schema.Class<Place>("Place")({
  state: Schema.Literal("pending", "delivered", "failed"),
  /** Null until it is sealed. */
  batchId: column("batch_id", Schema.NullOr(BatchId)),
  batchState: column("batch_state", Schema.NullOr(BatchState)),
  failureId: column("failure_id", Schema.NullOr(FailureId)),
  failureState: column("failure_state", Schema.NullOr(FailureState)),
  eventType: column("event_type", Schema.String),
  eventDateTime: column("event_date_time", Schema.String),
  publishedAt: column("published_at", Schema.Date),
  deliveredAt: column("delivered_at", Schema.NullOr(Schema.Date)),
  replayedAt: column("replayed_at", Schema.NullOr(Schema.Date))
}) {}

/**
 * Where an event is. It has more than one place if it was replayed, or if several were published under one id.
 *
 * @since 0.1.0
 * @category models
 */
export class Whereabouts extends Schema.Class<Whereabouts>("Whereabouts")({
  eventId: column("event_id", EventId),
  /** Of its newest place. */
  state: Place.fields.state,
  /** Newest first. */
  places: Schema.NonEmptyArray(Place)
}) {}

/**
 * A time in which batches did not get through although nothing was wrong with their events.
 *
 * @since 0.1.0
 * @category models
 */
export class Incident extends Schema.Class<Incident>("Incident")({
  id: Schema.Int,
  state: Schema.Literal("open", "closed"),
  errorClass: column("class", ErrorClass),
  /** Of the last attempt that failed. */
  code: Schema.NullOr(Schema.Int),
  message: Schema.String,
  /** When the first of its batches failed for the first time. */
  beganAt: column("began_at", Schema.Date),
  openedAt: column("opened_at", Schema.Date),
  lastSeenAt: column("last_seen_at", Schema.Date),
  closedAt: column("closed_at", Schema.NullOr(Schema.Date)),
  /** How many attempts at its batches failed. */
  attempts: Schema.Int,
  /** Up to 100 of its batches. */
  batchIds: column("batch_ids", Schema.Array(BatchId))
}) {}

/**
 * @since 0.1.0
 * @category errors
 */
export class BatchNotFound extends Schema.TaggedError<BatchNotFound>()("BatchNotFound", { batchId: BatchId }) {
  override get message(): string {
    return `There is no batch ${this.batchId}`
  }
}

/**
 * @since 0.1.0
 * @category errors
 */
export class EventNotFound extends Schema.TaggedError<EventNotFound>()("EventNotFound", { eventId: EventId }) {
  override get message(): string {
    return `Event ${this.eventId} is neither in the outbox nor in a failure. Delivered ones leave the outbox after OUTBOX_EVENT_RETENTION: look in ClickHouse's event_log`
  }
}
