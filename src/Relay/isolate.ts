/** Separating the events that ClickHouse refuses from those that it takes. */
import type { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import type { Lease } from "../Batch.ts"
import type * as Config from "../Config.ts"
import type { EventId } from "../Event.ts"
import * as Metrics from "../Metrics.ts"
import { type BatchChanged, type LeaseLost, OutboxStore } from "../OutboxStore.ts"
import type { SinkError } from "../SinkError.ts"

export interface Options extends Pick<Config.Relay, "refusedEventsLimit"> {
  /** Makes a worker look for batches. */
  readonly wake: Effect.Effect<unknown>
}

/** Why ClickHouse refuses a batch's data. */
export interface Refusal {
  readonly error: SinkError
  /** Where ClickHouse has a part of the batch: what it lacks. Otherwise it has and will have nothing of it. */
  readonly missing: Option.Option<Arr.NonEmptyReadonlyArray<EventId>>
}

/**
 * Deals with a batch that ClickHouse refuses. An event that was sent alone becomes a failure. A batch is split around the
 * row that ClickHouse named, or in two where it named none. Once it has taken an event that it had named, the rows that
 * it names are not believed any more for this batch. So a bad event costs four or five requests of its own, or as many
 * as the batch can be halved.
 *
 * Once `refusedEventsLimit` events of the batch that was sealed have been refused, what is refused of it after that is
 * told apart by what the refusals have in common. Events of types of which none was refused go on as a batch of their own,
 * so a publisher's bad events park nobody's good ones of another type. What is left, of types that were refused, becomes a
 * failure as it is. So a batch that is bad throughout costs a few hundred requests, not one for each event. Who gives each
 * bad event another type comes to an end too: a batch that was sealed becomes so many batches and no more.
 *
 * A batch that ClickHouse has in part has to stay whole, because only its own token keeps that part from being stored
 * twice. So the rest of it is published again, and is isolated in a batch of its own.
 */
export const isolate = (
  lease: Lease,
  { error, missing }: Refusal,
  options: Options
): Effect.Effect<void, BatchChanged | LeaseLost | SqlError, OutboxStore> =>
  Option.match(missing, {
    onNone: () => isolateWhole(lease, error, options),
    onSome: (eventIds) => isolateRest(lease, eventIds)
  }).pipe(
    // Not ClickHouse's words, which quote events: they are in the outbox, for those who may read them.
    Effect.annotateLogs({
      "error.class": error.errorClass,
      "error.code": error.code,
      ...(error.row !== undefined && { "error.row": error.row })
    })
  )

interface Split {
  readonly error: SinkError
  readonly suspect: Option.Option<number>
}

/** What isolating may cost where types tell nothing. Before the limit a bad event makes three to ten batches. */
const BATCHES_PER_REFUSED_EVENT = 20

const isolateWhole = (lease: Lease, error: SinkError, { refusedEventsLimit, wake }: Options) =>
  Effect.gen(function* () {
    const store = yield* OutboxStore
    const { eventCount } = lease.batch
    if (eventCount === 1) return yield* recordFailure(lease, { error, parked: false })
    const { batches, refused, suspectWasGood } = yield* store.refusals(lease)
    const suspect = Option.filter(Option.fromNullable(error.row), () => !suspectWasGood)
    const split = store.split(lease, { error, suspect })
    const children = yield* refused < refusedEventsLimit
      ? Effect.asSome(split)
      : batches < refusedEventsLimit * BATCHES_PER_REFUSED_EVENT
        ? splitByType(lease, { error, suspect })
        : Effect.succeedNone
    if (Option.isNone(children)) return yield* recordFailure(lease, { error, parked: true })
    yield* Metric.increment(Metrics.batchesSplit)
    yield* Effect.forEach(children.value, () => wake, { discard: true })
    yield* Effect.logWarning(
      `ClickHouse refuses a batch of ${eventCount} events, which is split into batches ${children.value.join(", ")}`
    )
  })

/**
 * None where its events cannot be told apart from those that were refused. Without a clue which types are bad, half of the
 * types is tried alone.
 */
const splitByType = (lease: Lease, { error, suspect }: Split) =>
  Effect.gen(function* () {
    const store = yield* OutboxStore
    const { others, suspected } = yield* store.kinds(lease, suspect)
    const [first, second] =
      suspected.length > 0 ? [others, suspected] : Arr.splitAt(others, Math.floor(others.length / 2))
    if (first.length === 0) return Option.none()
    return Option.some(yield* store.splitByType(lease, { error, first, second }))
  })

const recordFailure = (lease: Lease, failure: { readonly error: SinkError; readonly parked: boolean }) =>
  Effect.gen(function* () {
    const store = yield* OutboxStore
    const id = yield* store.fail(lease, failure)
    yield* Metric.incrementBy(Metrics.eventsRefused, lease.batch.eventCount)
    const what = failure.parked
      ? `${lease.batch.eventCount} events, which are parked because too many of their batch were refused before`
      : "an event"
    yield* Effect.logWarning(`ClickHouse refuses ${what}. Run "clickhouse-outbox failures show ${id}"`).pipe(
      Effect.annotateLogs("failure.id", id)
    )
  })

const isolateRest = (lease: Lease, missing: Arr.NonEmptyReadonlyArray<EventId>) =>
  Effect.gen(function* () {
    const store = yield* OutboxStore
    yield* store.republish(lease, missing)
    const { eventCount } = lease.batch
    yield* Metric.incrementBy(Metrics.eventsRepublished, missing.length)
    if (!lease.wasRequeued) yield* Metric.incrementBy(Metrics.eventsDelivered, eventCount - missing.length)
    yield* Effect.logWarning(
      `ClickHouse has ${eventCount - missing.length} of a batch's ${eventCount} events and refuses the rest, which is published again`
    )
  })
