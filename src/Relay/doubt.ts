/** Finding out what ClickHouse has of a batch, where an attempt may have been written. */
import type { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type { Lease } from "../Batch.ts"
import { ClickHouseSink } from "../ClickHouseSink.ts"
import { OutboxStore } from "../OutboxStore.ts"
import { SinkError } from "../SinkError.ts"

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
    const sink = yield* ClickHouseSink
    const { batch } = lease
    if (yield* tokenIsRemembered(lease)) {
      yield* sink.insert(batch.token, store.read(batch))
      if (Option.isSome(lease.repair)) {
        yield* sink.insert(lease.repair.value.token, store.readRepair(batch, lease.repair.value))
      }
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
    yield* sink.insert(repair.token, store.readRepair(batch, repair))
  })

/**
 * Whether a batch whose data ClickHouse refuses is in the table all the same: true if all of it is, false if nothing is
 * or will be. Fails, so that the batch is held, if part of it is.
 *
 * What is refused after an earlier attempt in doubt registers no token, so an insert of that attempt which still runs
 * would be written: one that began while the table took the data, for it goes by the table as it was then. It has to
 * end before ClickHouse is asked. None can begin meanwhile: a worker sends only under the lease, which is ours, and of
 * what was sent under an earlier one ClickHouse lists an insert from its first kilobyte on. One of which less arrived
 * is of a worker that broke it off, and what is cut off is not stored.
 *
 * A batch that is in the table in part is neither cut up nor condemned: only its own token keeps what is there from
 * being stored twice.
 */
export const isStored = (lease: Lease, refusal: SinkError) =>
  Effect.gen(function* () {
    if (refusal.settled && !lease.inDoubt) return false
    yield* noInsertRuns(lease)
    const missing = yield* missingEvents(lease)
    const { eventCount } = lease.batch
    if (missing.length > 0 && missing.length < eventCount) return yield* storedInPart(lease, missing.length, refusal)
    return missing.length === 0
  })

const storedInPart = (lease: Lease, missing: number, refusal: SinkError) =>
  new SinkError({
    errorClass: "unknown",
    reason: `The table has ${lease.batch.eventCount - missing} of this batch's events and refuses the other ${missing}: it has become stricter since they were sent, or an index, a projection or the sorting key refuses them. Relax that until the batch is delivered. ${refusal.message}`,
    settled: false,
    ...(refusal.code !== undefined && { code: refusal.code })
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
