/** Delivering one batch: lease, send, settle doubt, acknowledge or isolate. */
import type { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Tracer from "effect/Tracer"
import type { Lease } from "../Batch.ts"
import type { ClickHouseSink } from "../ClickHouseSink.ts"
import type * as Config from "../Config.ts"
import { raceFirst } from "../internal/race.ts"
import { reasonOf } from "../internal/text.ts"
import * as Metrics from "../Metrics.ts"
import { LeaseLost, OutboxStore } from "../OutboxStore.ts"
import * as RetryPolicy from "../RetryPolicy.ts"
import { SinkError } from "../SinkError.ts"
import { sendBatch, settleDoubt, whatIsRefused } from "./doubt.ts"
import { type Options as Isolation, isolate, type Refusal } from "./isolate.ts"
import { timed } from "./timing.ts"

export interface Options extends Config.Relay, Pick<Config.Outbox, "lease">, Isolation {
  readonly holder: string
  /** Run whenever the worker could use the outbox. */
  readonly alive: Effect.Effect<void>
  /** Run while a first attempt goes on. */
  readonly progressed: Effect.Effect<void>
}

/**
 * Leases the next batch and delivers it; false if there was none. A batch that is not delivered is released, to be
 * tried again later, and the failure is returned so that the worker can slow down. Bad data is isolated, and is none:
 * it says nothing about the next batch.
 */
export const deliverNext = (
  options: Options
): Effect.Effect<boolean, SinkError | SqlError, OutboxStore | ClickHouseSink> =>
  Effect.gen(function* () {
    const store = yield* OutboxStore
    // Not traced: most of the time there is none.
    const leased = yield* Effect.withTracerEnabled(store.lease(options.holder), false)
    if (Option.isNone(leased)) return false
    // Where there is one there may be more, of which only the sealer's relay has been told.
    yield* options.wake
    yield* Effect.acquireUseRelease(
      Metric.increment(Metrics.workersBusy),
      () => attempt(leased.value, options),
      () => Metric.incrementBy(Metrics.workersBusy, -1)
    )
    return true
  })

const attempt = (lease: Lease, options: Options) =>
  Effect.flatMap(OutboxStore, (store) =>
    deliver(lease, options).pipe(
      Effect.catchTags({
        SinkError: (error) => release(lease, error, options),
        BatchChanged: (error) =>
          release(lease, new SinkError({ errorClass: "unknown", reason: error.message, settled: false }), options),
        LeaseLost: logLost
      }),
      Effect.tapErrorTag("SqlError", (error) => releaseIfPossible(lease, error, options)),
      // A relay that is told to stop lets another have the batch at once, if Postgres takes it back in time.
      Effect.onInterrupt(() =>
        store
          .abandon(lease)
          .pipe(Effect.ignore, Effect.interruptible, Effect.disconnect, Effect.timeoutOption("2 seconds"))
      ),
      Effect.withSpan("Relay.deliver", {
        root: true,
        kind: "consumer",
        links: links(lease),
        attributes: lease.attributes
      }),
      Effect.annotateLogs({ "batch.id": lease.batch.id, "batch.event_count": lease.batch.eventCount })
    )
  )

const logLost = (error: LeaseLost) =>
  Effect.zipRight(Metric.increment(Metrics.leasesLost), Effect.logWarning(error.message))

/** The traces that the batch's events were published in. */
const links = ({ batch }: Lease): ReadonlyArray<Tracer.SpanLink> =>
  Arr.dedupe(batch.traceparents).map((traceparent) => {
    const [, traceId = "", spanId = "", flags] = traceparent.split("-")
    return {
      _tag: "SpanLink",
      span: Tracer.externalSpan({ traceId, spanId, sampled: flags === "01" }),
      attributes: {}
    }
  })

const deliver = (lease: Lease, options: Options) =>
  Effect.gen(function* () {
    if (lease.expired) {
      yield* Metric.increment(Metrics.leaseExpiries)
      yield* Effect.logWarning("Took over a batch whose worker went silent")
    }
    const refusal = yield* raceFirst(sendAndAcknowledge(lease), keepLease(lease, options))
    // The lease ends with it: a renewal that has to wait meanwhile would take that for its loss.
    if (Option.isSome(refusal)) yield* isolate(lease, refusal.value, options)
  })

/** The refusal, if ClickHouse refuses the data and does not have all of it. */
const sendAndAcknowledge = (lease: Lease) =>
  Effect.gen(function* () {
    const store = yield* OutboxStore
    const [duration, refusal] = yield* Effect.timed(send(lease))
    if (Option.isSome(refusal)) return refusal
    const underWay = yield* timed(Metrics.acknowledgeSeconds)(store.acknowledge(lease))
    if (!lease.wasRequeued) {
      yield* Metric.incrementBy(Metrics.eventsDelivered, lease.batch.eventCount)
      yield* Metric.update(Metrics.publishToDeliveredSeconds, Duration.toSeconds(underWay))
    }
    yield* Effect.logInfo(
      lease.wasRequeued ? "Delivered again what ClickHouse lacked of a batch" : "Delivered a batch"
    ).pipe(
      Effect.annotateLogs({
        "batch.byte_count": lease.batch.byteCount,
        "batch.attempt": lease.attempt,
        "batch.insert_ms": Math.round(Duration.toMillis(duration))
      })
    )
    return refusal
  })

const send = (lease: Lease) =>
  Effect.gen(function* () {
    yield* lease.inDoubt ? settleDoubt(lease) : sendBatch(lease)
    return Option.none<Refusal>()
  }).pipe(Effect.catchTag("SinkError", (error) => (error.errorClass === "data" ? whatIsRefused(lease, error) : error)))

/**
 * Renews the lease as long as the batch takes. Fails as soon as it can no longer be sure of it: then the insert is
 * broken off before another worker may have begun.
 */
const keepLease = (
  lease: Lease,
  { alive, lease: term, progressed }: Pick<Options, "alive" | "lease" | "progressed">
): Effect.Effect<never, LeaseLost, OutboxStore> =>
  Effect.flatMap(OutboxStore, (store) =>
    store.renew(lease).pipe(
      Effect.tapErrorTag("SqlError", (error) => Effect.logDebug("A lease could not be renewed", error)),
      Effect.retry({
        while: (error) => error._tag === "SqlError",
        schedule: Schedule.spaced(Duration.times(term, 0.05))
      }),
      Effect.catchTag("SqlError", Effect.die),
      Effect.timeoutFail({
        duration: Duration.times(term, 0.5),
        onTimeout: () => new LeaseLost({ batchId: lease.batch.id, leaseId: lease.leaseId })
      }),
      Effect.zipRight(lease.attempt === 1 ? Effect.zipRight(alive, progressed) : alive),
      Effect.delay(Duration.times(term, 0.3)),
      Effect.forever
    )
  )

/** Postgres failed in the middle of it: it may be the whole server, or just one statement. */
const releaseIfPossible = (lease: Lease, error: SqlError, options: Options) =>
  Effect.gen(function* () {
    const store = yield* OutboxStore
    const retryAfter = yield* RetryPolicy.delay(options, "in-doubt", lease.attempt)
    const reason = `Postgres failed: ${reasonOf(error)}`
    const inDoubt = new SinkError({ errorClass: "in-doubt", reason, settled: false })
    yield* Metric.increment(Metrics.retries("in-doubt"))
    yield* Effect.ignore(store.release(lease, { ...options, error: inDoubt, retryAfter }))
  })

const release = (lease: Lease, error: SinkError, options: Options) =>
  Effect.gen(function* () {
    const store = yield* OutboxStore
    const retryAfter = yield* RetryPolicy.delay(options, error.errorClass, lease.attempt)
    if (error.errorClass !== "data") yield* Metric.increment(Metrics.retries(error.errorClass))
    yield* Effect.logWarning(`A batch was not delivered: ${error.message}`).pipe(
      Effect.annotateLogs({
        "batch.attempt": lease.attempt,
        "error.class": error.errorClass,
        "retry.after_ms": Math.round(Duration.toMillis(retryAfter))
      })
    )
    yield* store.release(lease, { ...options, error, retryAfter }).pipe(Effect.catchTag("LeaseLost", logLost))
    return yield* error
  })
