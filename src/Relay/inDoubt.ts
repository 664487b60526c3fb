/** Finding out what ClickHouse has of a batch of which an earlier attempt may have been written. */
import type { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type { Lease } from "../Batch.ts"
import { ClickHouseSink, type Taken } from "../ClickHouseSink.ts"
import type { EventId } from "../Event.ts"
import * as Metrics from "../Metrics.ts"
import { type BatchChanged, type LeaseLost, OutboxStore } from "../OutboxStore.ts"
import { SinkError } from "../SinkError.ts"
import { insertBatch, insertRepair } from "./insert.ts"
import type { Refusal } from "./isolate.ts"

/**
 * Delivers a batch of which an earlier attempt may have been written, or may still be.
 *
 * The identical repeat comes first: an insert that is still running somewhere is harmless only once its token is
 * registered. Only then is ClickHouse asked what it has, because de-duplication alone was seen to lose a part when
 * ClickHouse was killed at the wrong moment. What is missing is sent under a token that is stored before.
 */
export const settleDoubt = (lease: Lease) =>
  Effect.gen(function* () {
    const missing = (yield* tokenIsRemembered(lease))
      ? yield* missingAfterRepeat(lease)
      : yield* missingBeforeRepeat(lease)
    yield* repair(lease, missing)
  })

/**
 * Sends a batch for the first time. Where ClickHouse's yes does not say that it has taken every row, such as behind a
 * proxy that drops what it does not know of an answer, it is asked, as after any doubt: the insert is over, so it need
 * not be repeated.
 */
export const sendBatch = (lease: Lease) =>
  Effect.gen(function* () {
    const taken = yield* insertBatch(lease)
    if (taken === "all") return
    yield* sayDoubt[taken]
    yield* Effect.flatMap(missingEvents(lease), (missing) => repair(lease, missing)).pipe(
      // A part of it may be there, whatever is said of the rest: a repeat would be a yes, and say that all was taken.
      Effect.mapError((error) => (error._tag === "SinkError" ? new SinkError({ ...error, settled: false }) : error))
    )
  })

const sayDoubt: Readonly<Record<Exclude<Taken, "all">, Effect.Effect<void>>> = {
  other: Effect.logWarning(
    "ClickHouse says that it has taken another number of rows than it was sent: asking which events it has"
  ),
  unsaid: Effect.logWarning(
    "ClickHouse's answer does not say how many events it has taken, perhaps because a proxy drops the header X-ClickHouse-Summary: asking which it has"
  ),
  // So it is with each batch.
  "with-views": Effect.void
}

const repair = (lease: Lease, missing: ReadonlyArray<EventId>) =>
  Effect.gen(function* () {
    const store = yield* OutboxStore
    if (!Arr.isNonEmptyReadonlyArray(missing)) return
    yield* Effect.logWarning("ClickHouse lacks events of a batch that was in doubt: sending them again").pipe(
      Effect.annotateLogs("batch.missing_count", missing.length)
    )
    const taken = yield* insertRepair(lease, yield* store.planRepair(lease, missing))
    if (taken !== "all" && (yield* missingEvents(lease)).length > 0) yield* stillMissing
    yield* Metric.incrementBy(Metrics.eventsRepaired, missing.length)
  })

/** The next attempt repeats what was sent, and asks. */
const stillMissing = new SinkError({
  errorClass: "unknown",
  reason: "ClickHouse lacks events that it was sent again, and answered yes",
  settled: false
})

const missingAfterRepeat = (lease: Lease) =>
  Effect.gen(function* () {
    yield* repeatBatch(lease)
    if (Option.isSome(lease.repair)) yield* insertRepair(lease, lease.repair.value)
    return yield* missingEvents(lease)
  })

/**
 * ClickHouse may have forgotten the token, and would then take a repeat as new. So it is asked before anything is sent. A
 * batch that it has nothing of is sent as it was, under its own token: that is as good as a repair, and needs no list of
 * its events. A repair that was sent before and is not there is sent again under its token first, as it may only be late.
 */
const missingBeforeRepeat = (lease: Lease) =>
  Effect.gen(function* () {
    yield* noInsertRuns(lease)
    const missing = yield* missingEvents(lease)
    const absent = new Set(missing)
    const late = Option.filter(lease.repair, ({ eventIds }) => eventIds.every((id) => absent.has(id)))
    if (Option.isSome(late)) yield* insertRepair(lease, late.value)
    else if (missing.length === lease.batch.eventCount) yield* repeatBatch(lease)
    else return missing
    return yield* missingEvents(lease)
  })

const repeatBatch = (lease: Lease) =>
  Effect.zipRight(insertBatch(lease), Metric.incrementBy(Metrics.eventsRepeated, lease.batch.eventCount))

/**
 * What a refusal of a batch's data covers: nothing of it if all is in the table all the same.
 *
 * A refused repeat registers no token. So an insert of an earlier attempt that still runs would be written: one that began
 * while the table took the data, because it goes by the table as it was then. It has to end before ClickHouse is asked.
 * None can end well after that: the lease is ours, and a worker ends its request only after Postgres has confirmed its own
 * lease. ClickHouse lists an insert from its first kilobyte on. What is left is a worker that was paused just then,
 * between the confirmation and the last bytes of a batch smaller than that, for longer than its lease.
 */
export const settleRefusal = (
  lease: Lease,
  error: SinkError
): Effect.Effect<Option.Option<Refusal>, SinkError | SqlError | BatchChanged, OutboxStore | ClickHouseSink> =>
  Effect.gen(function* () {
    const whole: Refusal = { error, missing: Option.none() }
    if (error.settled && !lease.inDoubt) return Option.some(whole)
    yield* noInsertRuns(lease)
    const missing = yield* missingEvents(lease)
    if (!Arr.isNonEmptyReadonlyArray(missing)) return Option.none()
    return Option.some(missing.length === lease.batch.eventCount ? whole : { error, missing: Option.some(missing) })
  })

const missingEvents = ({ batch, wasRequeued }: Lease) =>
  Effect.gen(function* () {
    const store = yield* OutboxStore
    const sink = yield* ClickHouseSink
    const eventIds = yield* wasRequeued ? store.retainedEventIds(batch) : store.eventIds(batch)
    return yield* sink.missing(batch, eventIds)
  })

/**
 * Nobody counts the inserts of other outboxes and programs. They are taken to make less than one part in this time, which
 * is 100 a second.
 */
const TIME_PER_PART_OF_OTHERS = Duration.millis(10)

/** Whether the table's window has not been filled since: one half of it by this outbox, the other by everybody else. */
const tokenIsRemembered = (
  lease: Lease
): Effect.Effect<boolean, LeaseLost | SinkError | SqlError, OutboxStore | ClickHouseSink> =>
  Effect.gen(function* () {
    if (lease.askFirst) return false
    const store = yield* OutboxStore
    const sink = yield* ClickHouseSink
    const { elapsed, parts } = yield* store.sinceFirstAttempt(lease)
    const window = yield* sink.deduplicationWindow
    const half = window.parts / 2
    return (
      parts < half &&
      Duration.lessThan(elapsed, Duration.times(TIME_PER_PART_OF_OTHERS, half)) &&
      Duration.lessThan(elapsed, Duration.times(window.age, 0.5))
    )
  })

const POLL_WHILE_INSERT_RUNS = "1 second"

/** Waits until no insert runs under the batch's token, nor under that of its repair. */
const noInsertRuns = ({ batch, repair }: Lease): Effect.Effect<void, SinkError, ClickHouseSink> =>
  Effect.flatMap(ClickHouseSink, (sink) =>
    Effect.forEach(
      [batch.token, ...Option.toArray(Option.map(repair, ({ token }) => token))],
      (token) =>
        sink
          .isInserting(token)
          .pipe(Effect.repeat({ while: (running) => running, schedule: Schedule.spaced(POLL_WHILE_INSERT_RUNS) })),
      { discard: true }
    )
  )
