/**
 * What an event is, and which events can be published.
 *
 * What can never be delivered fails here, before anything is written and while the caller can still be told: a context
 * that is no JSON object, weighs more than 1 MiB or nests deeper than 1,000 levels, a timestamp outside of ClickHouse's
 * range, a negative version. `outbox.publish` checks the same rules for everybody who publishes through SQL. What only
 * ClickHouse can know, such as an integer beyond its 64 bits, it refuses at delivery.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import * as Either from "effect/Either"
import type * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"

/**
 * @since 0.1.0
 * @category models
 */
export type JsonValue = string | number | boolean | null | JsonObject | ReadonlyArray<JsonValue>

/**
 * What an event's context is. A member that is undefined counts as absent.
 *
 * @since 0.1.0
 * @category models
 */
export interface JsonObject {
  readonly [key: string]: JsonValue | undefined
}

/**
 * The identity of an event, from the publisher to ClickHouse. Time-ordered (uuid version 7) unless the caller set it.
 *
 * @since 0.1.0
 * @category models
 */
export const EventId = Schema.UUID.pipe(Schema.brand("EventId"))
export type EventId = typeof EventId.Type

/**
 * The most that one event's context may weigh, in bytes of JSON. What brokers commonly allow (Kafka's
 * `message.max.bytes`); it bounds what one event can add to a batch.
 *
 * @since 0.1.0
 * @category limits
 */
export const MAX_CONTEXT_BYTES = 1_048_576

/**
 * What the publisher fills in when the caller leaves it out.
 *
 * @since 0.1.0
 * @category models
 */
export interface EventOptions {
  /**
   * A new time-ordered uuid unless set. Readers know an event by it, but it is no idempotency key: publishing
   * twice under one id makes two rows.
   */
  readonly eventId?: string
  /** When it happened: the `Clock`'s now unless set. From 1900 to 2299. */
  readonly eventDateTime?: DateTime.Utc | Date
  /** Where it happened: the configured environment unless set. 1 to 255 characters. */
  readonly environment?: string
}

/**
 * An event that has not been published yet. Made by a {@link define}d event or by {@link make}.
 *
 * @since 0.1.0
 * @category models
 */
export interface Event extends EventOptions {
  readonly eventType: string
  readonly metadataVersion: number | bigint
  /** The context as JSON, or what its Schema found wrong with it. */
  readonly encode: () => Either.Either<unknown, ParseResult.ParseError>
}

/**
 * An event's definition: called with a context of its shape, it makes an {@link Event}.
 *
 * @since 0.1.0
 * @category models
 */
export interface Definition<in out A, in out I> {
  (eventContext: A, options?: EventOptions): Event
  readonly eventType: string
  readonly metadataVersion: number
  readonly eventContext: Schema.Schema<A, I>
  /** What the Schema finds wrong with a context that is already JSON. */
  readonly validate: (json: unknown) => Either.Either<unknown, ParseResult.ParseError>
}

/**
 * The definitions that corrections of refused events are held against, besides what holds for every event. None unless
 * set: a program that serves the operator API itself provides its own.
 *
 * @example
 * ```ts
 * import { Layer, Schema } from "effect"
 * import { Event } from "clickhouse-outbox"
 *
 * const UserCreated = Event.define({
 *   eventType: "user_created",
 *   eventContext: Schema.Struct({ userId: Schema.Number })
 * })
 *
 * export const DefinitionsLive = Layer.succeed(Event.Definitions, [UserCreated])
 * ```
 * @since 0.1.0
 * @category models
 */
export class Definitions extends Context.Reference<Definitions>()("clickhouse-outbox/Event/Definitions", {
  defaultValue: (): ReadonlyArray<Pick<Definition<never, never>, "eventType" | "metadataVersion" | "validate">> => []
}) {}

/**
 * Defines an event once, so that only its shape can be published.
 *
 * @param eventType 1 to 255 characters; by convention a snake_case past participle, as in `user_created`
 * @param metadataVersion raise it when the shape of the context changes; 1 unless set
 * @param eventContext encodes to a JSON object
 * @example
 * ```ts
 * import { Schema } from "effect"
 * import { Event, EventPublisher } from "clickhouse-outbox"
 *
 * const UserCreated = Event.define({
 *   eventType: "user_created",
 *   eventContext: Schema.Struct({ userId: Schema.Number, email: Schema.String })
 * })
 *
 * const published = EventPublisher.publish(UserCreated({ userId: 1, email: "ada@example.com" }))
 * ```
 * @since 0.1.0
 * @category constructors
 */
export const define = <A, I>(definition: {
  readonly eventType: string
  readonly metadataVersion?: number
  readonly eventContext: Schema.Schema<A, I>
}): Definition<A, I> => {
  const encode = Schema.encodeEither(definition.eventContext, { errors: "all" })
  const validate = Schema.decodeUnknownEither(definition.eventContext, { errors: "all" })
  const { eventType, metadataVersion = 1, eventContext } = definition
  return Object.assign(
    (context: A, options?: EventOptions): Event => ({
      ...options,
      eventType,
      metadataVersion,
      encode: () => encode(context)
    }),
    { eventType, metadataVersion, eventContext, validate }
  )
}

/**
 * An event without a definition.
 *
 * @param metadataVersion 1 unless set
 * @example
 * ```ts
 * import { Event, EventPublisher } from "clickhouse-outbox"
 *
 * const published = EventPublisher.publish(
 *   Event.make({ eventType: "cache_flushed", eventContext: { keys: 12 } })
 * )
 * ```
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  event: EventOptions & {
    readonly eventType: string
    readonly eventContext: JsonObject
    readonly metadataVersion?: number | bigint
  }
): Event => ({
  ...event,
  metadataVersion: event.metadataVersion ?? 1,
  encode: () => Either.right(event.eventContext)
})

/**
 * One thing that is wrong with one event. `field` is the name of its column.
 *
 * @since 0.1.0
 * @category errors
 */
export class EventIssue extends Schema.Class<EventIssue>("EventIssue")({
  /** The event's position among those published together, from 0. */
  index: Schema.Number,
  eventType: Schema.String,
  field: Schema.String,
  reason: Schema.String
}) {
  override toString(): string {
    return `event ${this.index} (${JSON.stringify(this.eventType)}), ${this.field}: ${this.reason}`
  }
}

const MAX_ISSUES_IN_MESSAGE = 20

/**
 * Events that cannot be published. None of those given together was.
 *
 * @since 0.1.0
 * @category errors
 */
export class EventInvalid extends Schema.TaggedError<EventInvalid>()("EventInvalid", {
  issues: Schema.NonEmptyArray(EventIssue)
}) {
  override get message(): string {
    const shown = this.issues.slice(0, MAX_ISSUES_IN_MESSAGE).map(String).join("\n  ")
    const hidden = this.issues.length - MAX_ISSUES_IN_MESSAGE
    return `Nothing was published. Correct and publish again:\n  ${shown}${hidden > 0 ? `\n  and ${hidden} more` : ""}`
  }
}
