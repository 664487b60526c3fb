/** When to seal. Touches no table most of the time, and the outbox only when there may be something to seal. */
import type { SqlError } from "@effect/sql/SqlError"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import type * as Config from "../Config.ts"
import { type OutboxStatus, OutboxStore, type Position, type RelayPause } from "../OutboxStore.ts"
import * as RetryPolicy from "../RetryPolicy.ts"

/** What the last look came to. */
interface Look {
  readonly at: number
  readonly position: Position
  /** Until then, what was there may wait for others. */
  readonly dueAt: Option.Option<number>
  readonly transactionsInProgress: boolean
  /** Since when somebody else was sealing, without a batch that came of it. */
  readonly busySince: Option.Option<number>
}

/** A relay that freezes while it seals is ended by Postgres after 10 s. */
const BUSY_MILLIS = 60_000

/**
 * Where transactions have ended, there is a look after so much time whatever else is known, because a sequence moves
 * before its transaction commits. In milliseconds.
 */
const BLIND_MILLIS = 1_000

/** By a clock that nobody sets. */
const currentMillis = Effect.map(Clock.currentTimeNanos, (nanos) => Number(nanos / 1_000_000n))

/**
 * Waits until the next look. Where nothing is, what comes is seen well before it is due; where something is, it is seen
 * when it is due, and soon after it has become a full batch.
 */
const pause = (look: Look, linger: Duration.Duration): Effect.Effect<void> =>
  Effect.flatMap(currentMillis, (now) => {
    const isIdle = Option.isNone(look.dueAt) && !look.transactionsInProgress
    const [share, longest] = isIdle ? [0.25, 250] : [0.2, 100]
    const due = Option.match(look.dueAt, { onNone: () => longest, onSome: (dueAt) => dueAt - now })
    return Effect.sleep(Math.max(10, Math.min(longest, share * Duration.toMillis(linger), due)))
  })

/**
 * Seals whatever becomes due, without end. `onBatch` runs after each batch, sealed here or by another relay, `onLook`
 * after each batch and each look that could be ended.
 */
export const sealForever = (
  config: Pick<Config.Outbox, "linger" | "batchEvents"> & RetryPolicy.Bounds,
  onBatch: Effect.Effect<unknown>,
  onLook: Effect.Effect<unknown>
): Effect.Effect<never, never, OutboxStore> =>
  Effect.gen(function* () {
    const store = yield* OutboxStore
    const last = yield* Ref.make(Option.none<Look>())
    return yield* Effect.gen(function* () {
      // Not traced: most of the time there is nothing.
      const position = yield* Effect.withTracerEnabled(store.position, false)
      const now = yield* currentMillis
      const previous = yield* Ref.get(last)
      if (Option.exists(previous, (look) => position.batches !== look.position.batches)) yield* onBatch
      if (Option.exists(previous, (look) => !mayBeDue(look, position, now, config.batchEvents))) return
      const sealed = yield* store.seal().pipe(
        Effect.tap((outcome) => (outcome._tag === "Batch" ? Effect.zipRight(onBatch, onLook) : Effect.void)),
        Effect.repeat({ while: (outcome) => outcome._tag === "Batch" })
      )
      const known = Option.filter(previous, (look) => look.position.batches === position.batches)
      const busySince = yield* sealed._tag === "Busy"
        ? warnBusy(
            Option.getOrElse(
              Option.flatMap(known, (look) => look.busySince),
              () => now
            ),
            now
          )
        : Effect.succeedNone
      yield* Ref.set(
        last,
        Option.some({
          at: now,
          position,
          dueAt: sealed._tag === "Waiting" ? Option.some(now + Duration.toMillis(sealed.dueIn)) : Option.none(),
          transactionsInProgress: sealed._tag !== "Nothing" || sealed.transactionsInProgress,
          busySince
        })
      )
    }).pipe(
      Effect.zipRight(onLook),
      persistently(config),
      Effect.zipRight(
        Effect.flatMap(
          Ref.get(last),
          Effect.transposeMapOption((look) => pause(look, config.linger))
        )
      ),
      Effect.forever
    )
  })

/** Once in so much time. */
const warnBusy = (since: number, now: number): Effect.Effect<Option.Option<number>> =>
  now - since < BUSY_MILLIS
    ? Effect.succeedSome(since)
    : Effect.as(
        Effect.logWarning(
          "Nothing was sealed for a minute: another session of Postgres has the advisory lock that sealing takes. Look in pg_locks who it is, and end it with pg_terminate_backend"
        ),
        Option.some(now)
      )

/** Waits out an outage. The next one is met with short waits again. */
const persistently =
  (bounds: RetryPolicy.Bounds) =>
  <A, R>(look: Effect.Effect<A, SqlError, R>): Effect.Effect<A, never, R> =>
    look.pipe(
      Effect.tapError((error) => Effect.logWarning("The outbox cannot be reached", error)),
      Effect.retry(RetryPolicy.schedules(bounds).transient),
      // The schedule has no end.
      Effect.orDie
    )

const mayBeDue = (look: Look, position: Position, now: number, batchEvents: number): boolean =>
  (now - look.at >= BLIND_MILLIS && position.transactions !== look.position.transactions) ||
  Option.match(look.dueAt, {
    onSome: (dueAt) => now >= dueAt || position.events - look.position.events >= batchEvents,
    onNone: () => look.transactionsInProgress || position.events !== look.position.events
  })

/** How often is looked whether a batch is delivered. */
const POLL = "50 millis"

/** Seals everything that was committed, due or not, until nothing is left, sealed or undelivered but for failures. */
export const sealUntilEmpty = (
  config: RetryPolicy.Bounds,
  onBatch: Effect.Effect<unknown>
): Effect.Effect<void, never, OutboxStore> =>
  Effect.gen(function* () {
    const store = yield* OutboxStore
    const wasHeld = yield* Ref.make(false)
    const isDelivered = Effect.gen(function* () {
      if (!(yield* store.hasPending)) return true
      const pause = yield* store.relayPause
      if (Option.isSome(pause) && !(yield* Ref.get(wasHeld))) yield* warnPaused(pause.value)
      yield* Ref.set(wasHeld, Option.isSome(pause))
      return false
    })
    const isEmpty = Effect.gen(function* () {
      // Before it is sealed too: what a batch that is delivered in part leaves is published again.
      const wasDelivered = yield* isDelivered
      const sealed = yield* store.seal({ flush: true })
      if (sealed._tag === "Batch") {
        yield* onBatch
        return false
      }
      if (yield* isDelivered) return wasDelivered && sealed._tag === "Nothing"
      yield* Effect.delay(isDelivered, POLL).pipe(Effect.repeat({ until: (delivered) => delivered }))
      return false
    })
    yield* isEmpty.pipe(persistently(config), Effect.repeat({ until: (empty) => empty }))
    yield* Effect.ignore(Effect.flatMap(store.status, warnFailed))
  })

const warnFailed = ({ openFailures: { events, failures } }: OutboxStatus) =>
  Effect.when(
    Effect.logWarning(
      `${failures} ${failures === 1 ? "failure is" : "failures are"} open, with ${events} ${events === 1 ? "event" : "events"} that ClickHouse refuses. Run "clickhouse-outbox failures list"`
    ),
    () => failures > 0
  )

const warnPaused = ({ pausedAt, pausedBy, reason }: RelayPause) =>
  Effect.logWarning(
    `Nothing is delivered: all relays are paused, by ${pausedBy} since ${pausedAt.toISOString()}. Reason: ${reason}`
  )
