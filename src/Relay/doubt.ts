/** Finding out what ClickHouse has of a batch, where an attempt may have been written. */
import type { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type { Lease } from "../Batch.ts"
import { ClickHouseSink } from "../ClickHouseSink.ts"
import * as Metrics from "../Metrics.ts"
import { OutboxStore } from "../OutboxStore.ts"
import type { SinkError } from "../SinkError.ts"
import { insertBatch, insertRepair } from "./insert.ts"
import type { Refusal } from "./isolate.ts"

/**
 * An earlier attempt may have been written, or may still be.
 *
 * The identical repeat comes first: an insert that is still running somewhere is harmless only once its token is
 * registered. Only then is ClickHouse asked what it holds, because de-duplication alone was seen to lose a part when
 * ClickHouse was killed at the wrong moment. What is missing is sent under a token that is stored before.
 */
export const settleDoubt = (lease: Lease) =>
  Effect.gen(function* () {
    const store = yield* OutboxStore
    if (yield* tokenIsRemembered(lease)) {
      yield* insertBatch(lease)
      yield* Metric.incrementBy(Metrics.eventsRepeated, lease.batch.eventCount)
      if (Option.isSome(lease.repair)) yield* insertRepair(lease, lease.repair.value)
    } else {
      // ClickHouse has forgotten the token and would take a repeat as new. So nothing is repeated blindly.
      yield* noInsertRuns(lease)
    }
    const missing = yield* missingEvents(lease)
    if (!Arr.isNonEmptyReadonlyArray(missing)) return
    yield* Effect.logWarning("ClickHouse lacks events of a batch that was in doubt: sending them again").pipe(
      Effect.annotateLogs("batch.missing_count", missing.length)
    )
    const repair = yield* store.planRepair(lease, missing)
    yield* insertRepair(lease, repair)
    yield* Metric.incrementBy(Metrics.eventsRepaired, missing.length)
  })

/**
 * What is left to do about a batch whose data ClickHouse refuses: nothing if all of it is in the table all the same.
 *
 * What is refused after an earlier attempt in doubt registers no token, so an insert of that attempt which still runs
 * would be written: one that began while the table took the data, for it goes by the table as it was then. It has to
 * end before ClickHouse is asked. None can end well after that: the lease is ours, and a worker ends its request only
 * after Postgres has confirmed its own. ClickHouse lists an insert from its first kilobyte on. What is left is a worker
 * that was paused just then, between the confirmation and the last bytes of a batch smaller than that, for longer than
 * its lease.
 */
export const whatIsRefused = (lease: Lease, error: SinkError) =>
  Effect.gen(function* () {
    const whole: Refusal = { error, missing: Option.none() }
    if (error.settled && !lease.inDoubt) return Option.some(whole)
    yield* noInsertRuns(lease)
    const missing = yield* missingEvents(lease)
    if (!Arr.isNonEmptyReadonlyArray(missing)) return Option.none<Refusal>()
    return Option.some<Refusal>(
      missing.length === lease.batch.eventCount ? whole : { error, missing: Option.some(missing) }
    )
  })

const missingEvents = ({ batch }: Lease) =>
  Effect.gen(function* () {
    const store = yield* OutboxStore
    const sink = yield* ClickHouseSink
    return yield* Effect.flatMap(store.eventIds(batch), (eventIds) => sink.missing(batch, eventIds))
  })

/** Up to half of the window, because others may insert into the table too. */
const tokenIsRemembered = (lease: Lease): Effect.Effect<boolean, SinkError | SqlError, OutboxStore | ClickHouseSink> =>
  Effect.gen(function* () {
    const store = yield* OutboxStore
    const sink = yield* ClickHouseSink
    const { elapsed, parts } = yield* store.sinceFirstAttempt(lease)
    const window = yield* sink.deduplicationWindow
    return parts < window.parts / 2 && Duration.lessThan(elapsed, Duration.times(window.age, 0.5))
  })

/** Waits until none runs under the batch's token, nor under that of its repair. */
const noInsertRuns = ({ batch, repair }: Lease): Effect.Effect<void, SinkError, ClickHouseSink> =>
  Effect.flatMap(ClickHouseSink, (sink) =>
    Effect.forEach(
      [batch.token, ...Option.toArray(Option.map(repair, ({ token }) => token))],
      (token) =>
        sink
          .isInserting(token)
          .pipe(Effect.repeat({ while: (running) => running, schedule: Schedule.spaced("1 second") })),
      { discard: true }
    )
  )
