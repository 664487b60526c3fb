/** Delivering one batch: lease, send, settle doubt, acknowledge. */
import type { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Tracer from "effect/Tracer"
import type { Lease } from "../Batch.ts"
import { ClickHouseSink } from "../ClickHouseSink.ts"
import type * as Config from "../Config.ts"
import { type BatchChanged, LeaseLost, OutboxStore } from "../OutboxStore.ts"
import { reasonOf } from "../Reason.ts"
import * as RetryPolicy from "../RetryPolicy.ts"
import { SinkError } from "../SinkError.ts"

export interface Options extends Config.Relay, Pick<Config.Outbox, "lease"> {
  readonly holder: string
}

/**
 * Leases the next batch and delivers it; false if there was none. A batch that is not delivered is given back, to be
 * tried again later, and the failure is returned so that the worker can slow down. Bad data is not: it says nothing
 * about the next batch.
 */
export const deliverNext = (
  options: Options
): Effect.Effect<boolean, SinkError | SqlError, OutboxStore | ClickHouseSink> =>
  Effect.gen(function* () {
    const store = yield* OutboxStore
    const leased = yield* store.lease(options.holder)
    if (Option.isNone(leased)) return false
    yield* attempt(leased.value, options)
    return true
  })

const attempt = (lease: Lease, options: Options) =>
  Effect.flatMap(OutboxStore, (store) =>
    deliver(lease).pipe(
      Effect.raceFirst(keepLease(lease, options.lease)),
      Effect.catchTags({
        SinkError: (error) => giveBack(lease, error, options),
        BatchChanged: (error) =>
          giveBack(lease, new SinkError({ errorClass: "unknown", reason: error.message, settled: false }), options),
        LeaseLost: (error) => Effect.logWarning(error.message)
      }),
      Effect.tapErrorTag("SqlError", (error) => giveBackIfPossible(lease, error, options)),
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

const deliver = (
  lease: Lease
): Effect.Effect<void, SinkError | BatchChanged | LeaseLost | SqlError, OutboxStore | ClickHouseSink> =>
  Effect.gen(function* () {
    const store = yield* OutboxStore
    const sink = yield* ClickHouseSink
    const { batch } = lease
    if (lease.expired) yield* Effect.logWarning("Took over a batch whose worker went silent")
    const [duration] = yield* Effect.timed(
      lease.inDoubt ? settleDoubt(lease) : sink.insert(batch.token, store.read(batch))
    )
    yield* store.acknowledge(lease)
    yield* Effect.logInfo("Delivered a batch").pipe(
      Effect.annotateLogs({
        "batch.byte_count": batch.byteCount,
        "batch.attempt": lease.attempt,
        "batch.insert_ms": Math.round(Duration.toMillis(duration))
      })
    )
  })

/**
 * An earlier attempt may have been written, or may still be.
 *
 * The identical repeat comes first: an insert that is still running somewhere is harmless only once its token is
 * registered. Only then is ClickHouse asked what it holds, because de-duplication alone was seen to lose a part when
 * ClickHouse was killed at the wrong moment. What is missing is sent under a token that is stored before.
 */
const settleDoubt = (lease: Lease) =>
  Effect.gen(function* () {
    const store = yield* OutboxStore
    const sink = yield* ClickHouseSink
    const { batch } = lease
    if (yield* tokenIsRemembered(lease)) {
      yield* sink.insert(batch.token, store.read(batch))
      if (Option.isSome(lease.repair)) {
        yield* sink.insert(lease.repair.value.token, store.readRepair(batch, lease.repair.value))
      }
    } else {
      // ClickHouse has forgotten the token and would take a repeat as new. So nothing is repeated blindly.
      yield* noInsertRuns(batch.token)
      if (Option.isSome(lease.repair)) yield* noInsertRuns(lease.repair.value.token)
    }
    const missing = yield* Effect.flatMap(store.eventIds(batch), (eventIds) => sink.missing(batch, eventIds))
    if (!Arr.isNonEmptyReadonlyArray(missing)) return
    yield* Effect.logWarning("ClickHouse lacks events of a batch that was in doubt: sending them again").pipe(
      Effect.annotateLogs("batch.missing_count", missing.length)
    )
    const repair = yield* store.planRepair(lease, missing)
    yield* sink.insert(repair.token, store.readRepair(batch, repair))
  })

/** Up to half of the window, because others may insert into the table too. */
const tokenIsRemembered = (lease: Lease) =>
  Effect.gen(function* () {
    const store = yield* OutboxStore
    const sink = yield* ClickHouseSink
    const { elapsed, parts } = yield* store.sinceFirstAttempt(lease)
    const window = yield* sink.deduplicationWindow
    return parts < window.parts / 2 && Duration.lessThan(elapsed, Duration.times(window.age, 0.5))
  })

const noInsertRuns = (token: string) =>
  Effect.flatMap(ClickHouseSink, (sink) =>
    sink.isInserting(token).pipe(Effect.repeat({ while: (running) => running, schedule: Schedule.spaced("1 second") }))
  )

/**
 * Renews the lease as long as the batch takes. Fails as soon as it can no longer be sure of it: then the insert is
 * broken off before another worker may have begun.
 */
const keepLease = (lease: Lease, term: Duration.Duration): Effect.Effect<never, LeaseLost, OutboxStore> =>
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
      Effect.delay(Duration.times(term, 0.3)),
      Effect.forever
    )
  )

/** Postgres failed in the middle of it: it may be the whole server, or just one statement. */
const giveBackIfPossible = (lease: Lease, error: SqlError, options: Options) =>
  Effect.gen(function* () {
    const store = yield* OutboxStore
    const retryAfter = yield* RetryPolicy.delay(options, "transient", lease.attempt)
    const reason = `Postgres failed: ${reasonOf(error)}`
    const transient = new SinkError({ errorClass: "transient", reason, settled: false })
    yield* Effect.ignore(store.release(lease, { error: transient, retryAfter }))
  })

const giveBack = (lease: Lease, error: SinkError, options: Options) =>
  Effect.gen(function* () {
    const store = yield* OutboxStore
    const retryAfter = yield* RetryPolicy.delay(options, error.errorClass, lease.attempt)
    yield* Effect.logWarning(`A batch was not delivered: ${error.message}`).pipe(
      Effect.annotateLogs({
        "batch.attempt": lease.attempt,
        "error.class": error.errorClass,
        "retry.after_ms": Math.round(Duration.toMillis(retryAfter))
      })
    )
    yield* store
      .release(lease, { error, retryAfter })
      .pipe(Effect.catchTag("LeaseLost", (lost) => Effect.logWarning(lost.message)))
    if (error.errorClass !== "data") return yield* error
  })
