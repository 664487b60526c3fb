/** An event as tests see it. */
import type * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import * as Event from "../Event.ts"

/**
 * An event as it is in the outbox. Its context is JSON, or what a definition's Schema makes of that.
 *
 * @since 0.1.0
 * @category models
 */
export interface PublishedEvent<out Context = Event.JsonObject> {
  readonly eventId: Event.EventId
  readonly eventType: string
  readonly eventDateTime: Date
  readonly environment: string
  readonly eventContext: Context
  readonly metadataVersion: bigint
  /** W3C trace context of the span that published it. */
  readonly traceparent: Option.Option<string>
}

/**
 * As a SELECT gives it, with text for whatever a `SqlClient` may have been told to parse in its own way.
 *
 * @internal
 */
export const PublishedEventRow = Schema.Struct({
  eventId: Event.EventId,
  eventType: Schema.String,
  eventDateTime: Schema.Date,
  environment: Schema.String,
  eventContext: Schema.parseJson(
    Schema.declare((value): value is Event.JsonObject => Predicate.isReadonlyRecord(value))
  ),
  metadataVersion: Schema.BigInt,
  traceparent: Schema.OptionFromNullOr(Schema.String)
})
