/** Requirements on the events that were published. */
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as ParseResult from "effect/ParseResult"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import type * as Event from "../Event.ts"
import { type Expected, mismatch } from "./mismatch.ts"
import type { PublishedEvent } from "./PublishedEvent.ts"

/**
 * The events are not those that were required. The message lists what was published instead, and how it differs.
 *
 * @since 0.1.0
 * @category errors
 */
export class UnexpectedEvents extends Schema.TaggedError<UnexpectedEvents>()("UnexpectedEvents", {
  required: Schema.Literal("one", "no"),
  eventType: Schema.String,
  published: Schema.Array(
    Schema.Struct({
      eventType: Schema.String,
      eventContext: Schema.Unknown,
      metadataVersion: Schema.BigIntFromSelf,
      /** Absent where it is what was asked for. */
      mismatch: Schema.OptionFromSelf(Schema.String)
    })
  )
}) {
  override get message(): string {
    const matching = this.published.filter(({ mismatch }) => Option.isNone(mismatch)).length
    const found = `Expected ${this.required} event ${JSON.stringify(this.eventType)} that matches, found ${matching}.`
    if (this.published.length === 0) return `${found} Nothing was published`
    const lines = this.published.map(
      ({ eventContext, eventType, metadataVersion, mismatch }, index) =>
        `  ${index + 1}. ${JSON.stringify(eventType)} version ${metadataVersion} ${JSON.stringify(eventContext)}: ${Option.getOrElse(mismatch, () => "matches")}`
    )
    return `${found} Published:\n${lines.join("\n")}`
  }
}

type ExpectedJson = Readonly<Record<string, unknown>> | Predicate.Predicate<Event.JsonObject>

/**
 * Succeeds with the one event that is of this definition, or of this type, and as expected. Fails if there is none, or
 * more than one.
 *
 * @param expected the context, or some of its properties, or a predicate; predicates may also stand for properties
 * @example
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Event } from "clickhouse-outbox"
 * import { PublishedEvents } from "clickhouse-outbox/testing"
 *
 * const OrderPaid = Event.define({
 *   eventType: "order_paid",
 *   eventContext: Schema.Struct({ orderId: Schema.Number, cents: Schema.Number, paidAt: Schema.Date })
 * })
 *
 * const check = Effect.gen(function* () {
 *   const events = yield* PublishedEvents.inTransaction
 *   const paid = yield* PublishedEvents.requireOne(events, OrderPaid, { orderId: 7, cents: (cents) => cents > 0 })
 *   return paid.eventContext.paidAt.getTime() === paid.eventDateTime.getTime()
 * })
 * ```
 * @since 0.1.0
 * @category requiring
 */
export function requireOne<A, I>(
  events: ReadonlyArray<PublishedEvent>,
  definition: Event.Definition<A, I>,
  expected?: Expected<NoInfer<A>>
): Effect.Effect<PublishedEvent<A>, UnexpectedEvents>
export function requireOne(
  events: ReadonlyArray<PublishedEvent>,
  eventType: string,
  expected?: ExpectedJson
): Effect.Effect<PublishedEvent, UnexpectedEvents>
export function requireOne<A, I>(
  events: ReadonlyArray<PublishedEvent>,
  wanted: Event.Definition<A, I> | string,
  expected?: Expected<A> | ExpectedJson
): Effect.Effect<PublishedEvent<A | Event.JsonObject>, UnexpectedEvents> {
  const compared = events.map((event) => compare(event, wanted, expected))
  const [first, ...others] = Arr.getRights(compared)
  return first !== undefined && others.length === 0
    ? Effect.succeed(first)
    : unexpected("one", wanted, events, compared)
}

/**
 * Fails if there is an event that is of this definition, or of this type, and as expected.
 *
 * @param expected as in {@link requireOne}
 * @since 0.1.0
 * @category requiring
 */
export function requireNone<A, I>(
  events: ReadonlyArray<PublishedEvent>,
  definition: Event.Definition<A, I>,
  expected?: Expected<NoInfer<A>>
): Effect.Effect<void, UnexpectedEvents>
export function requireNone(
  events: ReadonlyArray<PublishedEvent>,
  eventType: string,
  expected?: ExpectedJson
): Effect.Effect<void, UnexpectedEvents>
export function requireNone<A, I>(
  events: ReadonlyArray<PublishedEvent>,
  wanted: Event.Definition<A, I> | string,
  expected?: Expected<A> | ExpectedJson
): Effect.Effect<void, UnexpectedEvents> {
  const compared = events.map((event) => compare(event, wanted, expected))
  return compared.some(Either.isRight) ? unexpected("no", wanted, events, compared) : Effect.void
}

/** The event as it was asked for, or how it differs. */
const compare = <A, I>(
  event: PublishedEvent,
  wanted: Event.Definition<A, I> | string,
  expected: unknown
): Either.Either<PublishedEvent<A | Event.JsonObject>, string> =>
  Either.gen(function* () {
    if (event.eventType !== typeOf(wanted)) return yield* Either.left("is of another type")
    const eventContext = Predicate.isString(wanted) ? event.eventContext : yield* decodeContext(event, wanted)
    const differs = expected === undefined ? undefined : mismatch(expected, eventContext)
    if (differs !== undefined) return yield* Either.left(differs)
    return { ...event, eventContext }
  })

const typeOf = (wanted: { readonly eventType: string } | string): string =>
  Predicate.isString(wanted) ? wanted : wanted.eventType

const decodeContext = <A, I>(event: PublishedEvent, definition: Event.Definition<A, I>): Either.Either<A, string> =>
  event.metadataVersion === BigInt(definition.metadataVersion)
    ? Schema.decodeUnknownEither(definition.eventContext, { errors: "all" })(event.eventContext).pipe(
        Either.mapLeft(ParseResult.ArrayFormatter.formatErrorSync),
        Either.mapLeft(Arr.map(({ message, path }) => `${path.join(".")}: ${message}`)),
        Either.mapLeft((issues) => `is not of its shape: ${issues.join("; ")}`)
      )
    : Either.left(`is not of version ${definition.metadataVersion}`)

const unexpected = (
  required: "one" | "no",
  wanted: { readonly eventType: string } | string,
  events: ReadonlyArray<PublishedEvent>,
  compared: ReadonlyArray<Either.Either<unknown, string>>
) =>
  new UnexpectedEvents({
    required,
    eventType: typeOf(wanted),
    published: Arr.zipWith(events, compared, ({ eventContext, eventType, metadataVersion }, result) => ({
      eventType,
      eventContext,
      metadataVersion,
      mismatch: Either.getLeft(result)
    }))
  })
