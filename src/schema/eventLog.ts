/** What people see of `event_log`, and why they may be told no. One Schema for ClickHouse's rows and HTTP. */
import * as Schema from "effect/Schema"
import { EventId } from "../Event.ts"
import { column } from "./columns.ts"

/**
 * A row of `event_log`.
 *
 * @since 0.1.0
 * @category models
 */
export class LoggedEvent extends Schema.Class<LoggedEvent>("LoggedEvent")({
  eventId: column("event_id", EventId),
  eventType: column("event_type", Schema.String),
  /** RFC 3339, to the microsecond. */
  eventDateTime: column("event_date_time", Schema.String),
  environment: Schema.String,
  /** JSON as text, in which no number has lost a digit. */
  eventContext: column("event_context", Schema.String),
  /** Up to 2^64 - 1, so it is text too. */
  metadataVersion: column("metadata_version", Schema.String),
  /** Empty if it was published outside of a trace. */
  traceId: column("trace_id", Schema.String)
}) {}

/**
 * Where a page ended: the one that follows has what is older.
 *
 * @since 0.1.0
 * @category models
 */
export const EventCursor = Schema.String.pipe(
  Schema.pattern(
    /^(?:19|2[0-2])\d{2}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z,[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/
  ),
  Schema.filter((text) => !Number.isNaN(Date.parse(text.slice(0, text.indexOf(","))))),
  Schema.brand("EventCursor")
)
export type EventCursor = typeof EventCursor.Type

/**
 * @since 0.1.0
 * @category models
 */
export class LoggedEvents extends Schema.Class<LoggedEvents>("LoggedEvents")({
  /** Newest first. A page of heavy events may end before its limit. */
  events: Schema.Array(LoggedEvent),
  /** What to give as `before` for the page that follows; null if there is none. */
  next: Schema.NullOr(EventCursor),
  /** How far back was looked: what is given as `since`, or an hour before the end. */
  since: Schema.Date
}) {}

/**
 * A value, and how many of the events that were counted have it.
 *
 * @since 0.1.0
 * @category models
 */
export const Counted = Schema.Struct({ name: Schema.String, events: Schema.Int }).annotations({ identifier: "Counted" })

/**
 * What there is to filter by.
 *
 * @since 0.1.0
 * @category models
 */
export class EventNames extends Schema.Class<EventNames>("EventNames")({
  /** The most frequent first, up to 100. */
  eventTypes: column("event_types", Schema.Array(Counted)),
  environments: Schema.Array(Counted),
  /** How far back was looked. Fewer may have been counted, where there are very many. */
  since: Schema.Date
}) {}

/**
 * Nothing was read.
 *
 * @since 0.1.0
 * @category errors
 */
export class TooCostly extends Schema.TaggedError<TooCostly>()("TooCostly", { reason: Schema.String }) {
  override get message(): string {
    return `Too much would have to be read for this. Give an event type, or a shorter time. ClickHouse says: ${this.reason}`
  }
}

/**
 * @since 0.1.0
 * @category errors
 */
export class LoggedEventNotFound extends Schema.TaggedError<LoggedEventNotFound>()("LoggedEventNotFound", {
  eventId: EventId
}) {
  override get message(): string {
    return `Event ${this.eventId} is not in ClickHouse, where it was looked for. It may be on its way: see where it is in the outbox`
  }
}
