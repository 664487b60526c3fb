/** Finding the events that ClickHouse refuses among those that it takes. */
import type { SqlError } from "@effect/sql/SqlError"
import type * as Arr from "effect/Array"
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
 * Deals with a batch that ClickHouse refuses. An event that was sent alone becomes a failure. A batch is cut up around
 * the row that ClickHouse named, or in two where it named none; once it has named one that it then took, it is not
 * believed again for this batch. So a bad event costs four or five requests of its own, or as many as the batch can be
 * halved.
 *
 * When so many events of the batch that was sealed have been refused as the limit says, what is refused of it after
 * that becomes a failure as it is: a batch that is bad throughout costs a few hundred requests, not one for each event.
 *
 * A batch that is there in part has to stay whole, as only its own token keeps that part from being stored twice. So
 * the rest of it is published again, and goes this way in a batch of its own.
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
    // Not what ClickHouse says, as it quotes events: that is in the outbox, for those who may read them.
    Effect.annotateLogs({
      "error.class": error.errorClass,
      "error.code": error.code,
      ...(error.row !== undefined && { "error.row": error.row })
    })
  )

const isolateWhole = (lease: Lease, error: SinkError, { refusedEventsLimit, wake }: Options) =>
  Effect.gen(function* () {
    const store = yield* OutboxStore
    const { eventCount } = lease.batch
    if (eventCount === 1) return yield* condemn(lease, error, false)
    const { suspectWasGood, refused } = yield* store.refusals(lease)
    if (refused >= refusedEventsLimit) return yield* condemn(lease, error, true)
    const suspect = Option.filter(Option.fromNullable(error.row), () => !suspectWasGood)
    const children = yield* store.split(lease, { error, suspect })
    yield* Metric.increment(Metrics.batchesSplit)
    yield* Effect.forEach(children, () => wake, { discard: true })
    yield* Effect.logWarning(
      `ClickHouse refuses a batch of ${eventCount} events, which is cut into batches ${children.join(", ")}`
    )
  })

const condemn = (lease: Lease, error: SinkError, parked: boolean) =>
  Effect.gen(function* () {
    const store = yield* OutboxStore
    const id = yield* store.fail(lease, { error, parked })
    yield* Metric.incrementBy(Metrics.eventsRefused, lease.batch.eventCount)
    const what = parked
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
