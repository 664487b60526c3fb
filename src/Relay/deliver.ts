/**
 * Delivering one batch under its lease: send it, or settle the doubt about it, and act on what came of that.
 *
 * | outcome     | means                                                 | the batch is             | the worker            |
 * | ----------- | ----------------------------------------------------- | ------------------------ | --------------------- |
 * | `Delivered` | ClickHouse has every event of it, and Postgres knows  | delivered                | takes the next one    |
 * | `Refused`   | ClickHouse refuses its data, and does not have all of | isolated: split, failed, | takes the next one    |
 * |             | it; no insert of it runs any more                     | or its rest republished  |                       |
 * | `Failed`    | anything else: no definite answer, a server that is   | released: retrying or    | waits, longer each    |
 * |             | down or set up wrong, rows that are gone              | blocked                  | time in a row         |
 * | `LeaseLost` | another worker may have it by now                     | left alone               | takes the next one    |
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import type { TimeoutException } from "effect/Cause"
import * as Data from "effect/Data"
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
import { type BatchChanged, LeaseLost, OutboxStore } from "../OutboxStore.ts"
import * as RetryPolicy from "../RetryPolicy.ts"
import { SinkError } from "../SinkError.ts"
import { sendBatch, settleDoubt, settleRefusal } from "./inDoubt.ts"
import { timed } from "./insert.ts"
import { type Options as IsolationOptions, isolate, type Refusal } from "./isolate.ts"

export interface Options
  extends RetryPolicy.Bounds,
    IsolationOptions,
    Pick<Config.Relay, "incidentAfter">,
    Pick<Config.Outbox, "lease"> {
  readonly owner: string
  /** Run whenever the worker could use the outbox. */
  readonly alive: Effect.Effect<void>
  /** Run while a first attempt goes on. */
  readonly progressed: Effect.Effect<void>
}

/** Why a batch is to be tried again. */
export type Failed = SinkError | BatchChanged | SqlError

type Outcome = Data.TaggedEnum<{
  Delivered: {
    /** From the publication of its oldest event until it was acknowledged. */
    readonly underWay: Duration.Duration
    readonly insertTime: Duration.Duration
  }
  Refused: Refusal
  Failed: { readonly error: Failed }
  LeaseLost: { readonly error: LeaseLost }
}>
const Outcome = Data.taggedEnum<Outcome>()

/**
 * Leases the next batch and delivers it; false if there was none. Fails if the batch was released to be tried again, so
 * that the worker can slow down. Bad data is isolated and is no failure: it says nothing about the next batch.
 */
export const deliverNext = (options: Options): Effect.Effect<boolean, Failed, OutboxStore | ClickHouseSink> =>
  Effect.gen(function* () {
    const store = yield* OutboxStore
    // Not traced: most of the time there is none.
    const leased = yield* Effect.withTracerEnabled(store.lease(options.owner), false)
    if (Option.isNone(leased)) return false
    // Where there is one there may be more, and only the relay that sealed them has told its workers.
    yield* options.wake
    yield* Effect.acquireUseRelease(
      Metric.increment(Metrics.workersBusy),
      () => attempt(leased.value, options),
      () => Metric.incrementBy(Metrics.workersBusy, -1)
    )
    return true
  })

const attempt = (lease: Lease, options: Options) =>
  Effect.gen(function* () {
    if (lease.expired) {
      yield* Metric.increment(Metrics.leaseExpiries)
      yield* Effect.logWarning("Took over a batch whose worker went silent")
    }
    yield* conclude(lease, yield* sendUnderLease(lease, options), options)
  }).pipe(
    Effect.onInterrupt(() => abandon(lease)),
    Effect.withSpan("Relay.deliver", {
      root: true,
      kind: "consumer",
      links: links(lease),
      attributes: lease.attributes
    }),
    Effect.annotateLogs({ "batch.id": lease.batch.id, "batch.event_count": lease.batch.eventCount })
  )

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

/** The lease is renewed until the batch is acknowledged, and not only until it is sent: Postgres may be slow to answer. */
const sendUnderLease = (lease: Lease, options: Options) =>
  Effect.catchAll(raceFirst(sendAndAcknowledge(lease), keepLease(lease, options)), (error) =>
    Effect.succeed(outcomeOf(error))
  )

const outcomeOf = (error: Failed | LeaseLost): Outcome =>
  error._tag === "LeaseLost" ? Outcome.LeaseLost({ error }) : Outcome.Failed({ error })

const sendAndAcknowledge = (lease: Lease) =>
  Effect.gen(function* () {
    const store = yield* OutboxStore
    const [insertTime, refusal] = yield* Effect.timed(send(lease))
    if (Option.isSome(refusal)) return Outcome.Refused(refusal.value)
    const underWay = yield* timed(Metrics.acknowledgeSeconds)(store.acknowledge(lease))
    return Outcome.Delivered({ underWay, insertTime })
  })

/** Without a refusal ClickHouse has all of the batch. */
const send = (lease: Lease) =>
  (lease.inDoubt ? settleDoubt(lease) : sendBatch(lease)).pipe(
    Effect.as(Option.none<Refusal>()),
    Effect.catchTag("SinkError", (error) => (error.errorClass === "data" ? settleRefusal(lease, error) : error))
  )

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
      // It is tried again without end.
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

/**
 * A batch is isolated without the lease being renewed meanwhile, because the lease ends with it: a renewal that has to
 * wait for the split, or for the failure, would take that for the lease's loss.
 */
const conclude = (lease: Lease, outcome: Outcome, options: Options): Effect.Effect<void, Failed, OutboxStore> => {
  switch (outcome._tag) {
    case "Delivered":
      return reportDelivered(lease, outcome)
    case "Refused":
      return Effect.catchAll(isolate(lease, outcome, options), (error) => conclude(lease, outcomeOf(error), options))
    case "Failed":
      return Effect.zipRight(release(lease, outcome.error, options), Effect.fail(outcome.error))
    case "LeaseLost":
      return reportLost(outcome.error)
  }
}

const reportDelivered = (
  { attempt, batch, wasRequeued }: Lease,
  { insertTime, underWay }: Data.TaggedEnum.Value<Outcome, "Delivered">
) =>
  Effect.gen(function* () {
    if (!wasRequeued) {
      yield* Metric.incrementBy(Metrics.eventsDelivered, batch.eventCount)
      yield* Metric.update(Metrics.publishToDeliveredSeconds, Duration.toSeconds(underWay))
    }
    yield* Effect.logInfo(wasRequeued ? "Delivered again what ClickHouse lacked of a batch" : "Delivered a batch").pipe(
      Effect.annotateLogs({
        "batch.byte_count": batch.byteCount,
        "batch.attempt": attempt,
        "batch.insert_ms": Math.round(Duration.toMillis(insertTime))
      })
    )
  })

const reportLost = (error: LeaseLost) =>
  Effect.zipRight(Metric.increment(Metrics.leasesLost), Effect.logWarning(error.message))

/** Of an error of Postgres the worker says that the outbox cannot be used. */
const release = (lease: Lease, error: Failed, options: Options): Effect.Effect<void, Failed, OutboxStore> =>
  Effect.gen(function* () {
    const store = yield* OutboxStore
    const recorded = toSinkError(error)
    const { errorClass } = recorded
    const retryAfter = yield* RetryPolicy.delay(options, errorClass, lease.attempt)
    if (errorClass !== "data") yield* Metric.increment(Metrics.retries(errorClass))
    const released = store.release(lease, { error: recorded, retryAfter, incidentAfter: options.incidentAfter })
    if (error._tag === "SqlError") return yield* Effect.catchAll(released, logNotReleased)
    yield* Effect.logWarning(`A batch was not delivered: ${error.message}`).pipe(
      Effect.annotateLogs({
        "batch.attempt": lease.attempt,
        "error.class": errorClass,
        "retry.after_ms": Math.round(Duration.toMillis(retryAfter))
      })
    )
    yield* Effect.catchAll(released, (failed) => conclude(lease, outcomeOf(failed), options))
  })

/** What the manifest says of it. Where Postgres failed, ClickHouse may have got all of the batch. */
const toSinkError = (error: Failed): SinkError => {
  switch (error._tag) {
    case "SinkError":
      return error
    case "BatchChanged":
      return new SinkError({ errorClass: "unknown", reason: error.message, settled: false })
    case "SqlError":
      return new SinkError({ errorClass: "in-doubt", reason: `Postgres failed: ${reasonOf(error)}`, settled: false })
  }
}

/** A relay that is told to stop lets another have the batch at once, if Postgres takes it back in time. */
const abandon = (lease: Lease) =>
  Effect.flatMap(OutboxStore, (store) => store.abandon(lease)).pipe(
    Effect.interruptible,
    Effect.disconnect,
    Effect.timeout("2 seconds"),
    Effect.catchAll(logNotReleased)
  )

const logNotReleased = (error: LeaseLost | SqlError | TimeoutException) =>
  error._tag === "LeaseLost"
    ? Effect.logDebug("The batch is not this worker's any more, and was not released")
    : Effect.logWarning("The batch could not be released: it is tried again once its lease has run out", error)
