/**
 * What an event is, and which events can be published.
 *
 * An event that ClickHouse could only mangle or refuse for good is refused here, before anything is written and while
 * the caller can still be told: a context that is no JSON object, a timestamp outside ClickHouse's range, a negative
 * version, more than 1 MiB. The table `outbox.event` checks the same rules for everybody who publishes through SQL.
 *
 * @since 0.1.0
 */
import * as DateTime from "effect/DateTime"
import * as Either from "effect/Either"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import { v7 as uuidV7 } from "uuid"
import { type JsonObject, jsonProblem } from "./Json.ts"

export type { JsonObject, JsonValue } from "./Json.ts"

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

const MAX_NAME_CHARACTERS = 255
const MAX_VERSION = 2n ** 63n - 1n
const FIRST_MILLIS = Date.UTC(1900, 0, 1)
const LAST_MILLIS = Date.UTC(2300, 0, 1) - 1

/**
 * What the publisher fills in when the caller leaves it out.
 *
 * @since 0.1.0
 * @category models
 */
export interface EventOptions {
  /** A new time-ordered uuid unless set. An id that comes back is the same event to ClickHouse's readers. */
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
}

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
  const { eventType, metadataVersion = 1, eventContext } = definition
  return Object.assign(
    (context: A, options?: EventOptions): Event => ({
      ...options,
      eventType,
      metadataVersion,
      encode: () => encode(context)
    }),
    { eventType, metadataVersion, eventContext }
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

/**
 * An event as the outbox stores it: every column decided, every check passed.
 *
 * @since 0.1.0
 * @category models
 */
export interface EventRow {
  readonly eventId: EventId
  readonly eventType: string
  /** RFC 3339 with up to six fractional digits. */
  readonly eventDateTime: string
  readonly environment: string
  /** JSON text of an object. */
  readonly eventContext: string
  readonly metadataVersion: string
}

/**
 * Decides the columns that the caller left open and checks them all.
 *
 * @internal
 */
export const toRow = (
  event: Event,
  index: number,
  defaults: { readonly nowMillis: number; readonly environment: string }
): Either.Either<EventRow, ReadonlyArray<EventIssue>> => {
  const issues: Array<EventIssue> = []
  const report = (field: string, reason: string) => {
    issues.push(new EventIssue({ index, eventType: String(event.eventType), field, reason }))
  }

  const name = (field: string, value: string): string => {
    const problem = nameProblem(value)
    if (problem !== undefined) report(field, problem)
    return value
  }
  const eventType = name("event_type", event.eventType)
  const environment = name("environment", event.environment ?? defaults.environment)

  const millis = event.eventDateTime === undefined ? defaults.nowMillis : toMillis(event.eventDateTime)
  const inRange = millis >= FIRST_MILLIS && millis <= LAST_MILLIS
  if (!inRange)
    report("event_date_time", "must be a time from 1900-01-01 to 2299-12-31, which is what ClickHouse holds")

  // As both databases print it.
  const eventId = Schema.decodeUnknownEither(EventId)(event.eventId?.toLowerCase() ?? uuidV7())
  if (Either.isLeft(eventId)) report("event_id", `must be a uuid, not ${JSON.stringify(event.eventId)}`)

  const version = toVersion(event.metadataVersion)
  if (version === undefined) report("metadata_version", "must be a whole number from 0 to 9223372036854775807")

  const eventContext = toJson(event.encode(), (path, reason) => report(["event_context", ...path].join("."), reason))

  return issues.length === 0 && Either.isRight(eventId) && version !== undefined && eventContext !== undefined
    ? Either.right({
        eventId: eventId.right,
        eventType,
        eventDateTime: new Date(millis).toISOString(),
        environment,
        eventContext,
        metadataVersion: version.toString()
      })
    : Either.left(issues)
}

const toMillis = (time: DateTime.Utc | Date): number =>
  time instanceof Date ? time.getTime() : DateTime.toEpochMillis(time)

const toVersion = (version: number | bigint): bigint | undefined => {
  if (typeof version === "number" && !Number.isSafeInteger(version)) return undefined
  const exact = BigInt(version)
  return exact >= 0n && exact <= MAX_VERSION ? exact : undefined
}

const nameProblem = (value: unknown): string | undefined => {
  if (typeof value !== "string") return `must be a string, not ${value === null ? "null" : typeof value}`
  const characters = value.length <= MAX_NAME_CHARACTERS ? value.length : [...value].length
  if (characters === 0 || characters > MAX_NAME_CHARACTERS) {
    return `must have 1 to ${MAX_NAME_CHARACTERS} characters, not ${characters}`
  }
  return jsonProblem(value)?.reason
}

const toJson = (
  encoded: Either.Either<unknown, ParseResult.ParseError>,
  report: (path: ReadonlyArray<PropertyKey>, reason: string) => void
): string | undefined => {
  if (Either.isLeft(encoded)) {
    for (const issue of ParseResult.ArrayFormatter.formatErrorSync(encoded.left)) report(issue.path, issue.message)
    return undefined
  }
  const problem = jsonProblem(encoded.right)
  if (problem !== undefined) {
    report(problem.path, problem.reason)
    return undefined
  }
  const json = JSON.stringify(encoded.right)
  if (!json.startsWith("{")) {
    report([], "must be a JSON object")
    return undefined
  }
  const bytes = Buffer.byteLength(json)
  if (bytes > MAX_CONTEXT_BYTES) {
    report([], `must not exceed ${MAX_CONTEXT_BYTES} bytes of JSON, has ${bytes}`)
    return undefined
  }
  return json
}

/** Names and reasons of the checks on `outbox.event`, for what only Postgres could find. */
export const constraintIssues: Readonly<Record<string, { readonly field: string; readonly reason: string }>> = {
  event_type_must_have_1_to_255_characters: { field: "event_type", reason: "must have 1 to 255 characters" },
  environment_must_have_1_to_255_characters: { field: "environment", reason: "must have 1 to 255 characters" },
  event_context_must_be_a_json_object: { field: "event_context", reason: "must be a JSON object" },
  event_context_must_not_exceed_1_mib: {
    field: "event_context",
    reason: `must not exceed ${MAX_CONTEXT_BYTES} bytes as Postgres writes JSON`
  },
  event_context_must_not_exceed_1000_levels: {
    field: "event_context",
    reason: "must not be nested deeper than 1000 levels"
  },
  metadata_version_must_not_be_negative: { field: "metadata_version", reason: "must not be negative" },
  event_date_time_must_be_from_1900_to_2299: { field: "event_date_time", reason: "must be from 1900 to 2299" },
  traceparent_must_be_w3c_trace_context: { field: "traceparent", reason: "must be a W3C traceparent" }
}
