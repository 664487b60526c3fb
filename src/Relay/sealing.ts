/**
 * When to seal. Most of the time the relay reads two sequences and touches no table. It looks at the outbox itself, which
 * is what sealing begins with, only when there may be something to seal. What the last look found decides when:
 *
 * | found     | means                                         | reads the sequences again      | looks at the outbox again    |
 * | --------- | --------------------------------------------- | ------------------------------ | ---------------------------- |
 * | `Idle`    | every committed event is in a batch           | after 250 ms, or linger / 4    | when an event takes an id    |
 * | `Open`    | the same, but transactions are in progress    | after 100 ms, or linger / 5    | each time                    |
 * | `Waiting` | events may wait for others until `dueAt`      | likewise, or at `dueAt`        | at `dueAt`, or when a full   |
 * |           |                                               |                                | batch may be there           |
 * | `Busy`    | another session is sealing                    | likewise                       | each time                    |
 *
 * In each of them it also looks once a second where transactions have ended: a sequence moves before its transaction
 * commits, so one that stands still proves nothing.
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Config from "../Config.ts"
import { monotonicMillis } from "../internal/clock.ts"
import { type OutboxStatus, OutboxStore, type Position, type RelayPause, type Sealed } from "../OutboxStore.ts"
import * as RetryPolicy from "../RetryPolicy.ts"

/** What a look at the outbox found, once everything that was due is sealed. */
export type Found = Data.TaggedEnum<{
  Idle: Record<never, never>
  Open: Record<never, never>
  Waiting: { readonly dueAt: number }
  /** `since` the first of several looks in a row, between which no batch was sealed. */
  Busy: { readonly since: number }
}>
export const Found = Data.taggedEnum<Found>()

/** How far things had moved at a time; see {@link monotonicMillis}. */
export interface Reading {
  readonly at: number
  readonly position: Position
}

/** A look at the outbox, with the reading from just before it. */
export interface Look extends Reading {
  readonly found: Found
}

/** Milliseconds after which the outbox is looked at where transactions have ended, whatever else is known. */
const LOOK_IF_TRANSACTIONS_ENDED_AFTER = 1_000

/** Whether there may be something to seal. */
export const mayHaveToSeal = (last: Look, { at, position }: Reading, batchEvents: number): boolean => {
  const transactionsEnded = position.transactions !== last.position.transactions
  if (transactionsEnded && at - last.at >= LOOK_IF_TRANSACTIONS_ENDED_AFTER) return true
  const idsTaken = position.events - last.position.events
  switch (last.found._tag) {
    case "Idle":
      return idsTaken !== 0
    case "Open":
    case "Busy":
      return true
    case "Waiting":
      return at >= last.found.dueAt || idsTaken >= batchEvents
  }
}

/** Nothing more is due, or cannot be sealed now. */
type Ended = Exclude<Sealed, { readonly _tag: "Batch" }>

/** What is known after an attempt to seal. */
export const lookAfter = (last: Option.Option<Look>, reading: Reading, ended: Ended): Look => ({
  ...reading,
  found: found(last, reading, ended)
})

const found = (last: Option.Option<Look>, reading: Reading, ended: Ended): Found => {
  switch (ended._tag) {
    case "Nothing":
      return ended.transactionsInProgress ? Found.Open() : Found.Idle()
    case "Waiting":
      return Found.Waiting({ dueAt: reading.at + Duration.toMillis(ended.dueIn) })
    case "Busy":
      return Found.Busy({ since: Option.getOrElse(Option.flatMap(last, busySince(reading)), () => reading.at) })
  }
}

/** A warning starts the count again, so that there is one in so much time. */
const busySince =
  ({ position }: Reading) =>
  (last: Look): Option.Option<number> => {
    if (last.found._tag !== "Busy" || last.position.batches !== position.batches) return Option.none()
    return Option.some(isStuck(last) ? last.at : last.found.since)
  }

/** Milliseconds. Not another relay: Postgres ends the session of one that freezes while it seals after 10 s. */
const STUCK_AFTER = 60_000

/** Whether somebody has held the lock for so long, without a batch, that it is worth a warning. */
export const isStuck = ({ at, found }: Look): boolean => found._tag === "Busy" && at - found.since >= STUCK_AFTER

/**
 * Milliseconds until the sequences are read again. From `Idle`, what comes is seen well before it is due; otherwise it is
 * seen when it is due, and soon after it has become a full batch.
 */
export const waitAfter = ({ found }: Look, now: number, linger: Duration.Duration): number => {
  const lingerMillis = Duration.toMillis(linger)
  const wait = found._tag === "Idle" ? Math.min(250, lingerMillis * 0.25) : Math.min(100, lingerMillis * 0.2)
  return Math.max(10, found._tag === "Waiting" ? Math.min(wait, found.dueAt - now) : wait)
}

export interface Options extends RetryPolicy.Bounds, Pick<Config.Outbox, "linger" | "batchEvents"> {
  /** Run after each batch, whether it was sealed here or by another relay. */
  readonly onBatch: Effect.Effect<unknown>
  /** Run after each batch that is sealed here, and each time that the outbox could be asked. */
  readonly onLook: Effect.Effect<unknown>
}

/** Seals whatever becomes due, without end. */
export const sealForever = ({
  batchEvents,
  linger,
  onBatch,
  onLook,
  ...retry
}: Options): Effect.Effect<never, never, OutboxStore> =>
  Effect.gen(function* () {
    const store = yield* OutboxStore
    const sealAll = store.seal().pipe(
      Effect.tap((sealed) => (sealed._tag === "Batch" ? Effect.zipRight(onBatch, onLook) : Effect.void)),
      Effect.repeat({ until: (sealed): sealed is Ended => sealed._tag !== "Batch" })
    )
    const lookAgain = (last: Option.Option<Look>) =>
      Effect.gen(function* () {
        // Not traced: most of the time there is nothing.
        const position = yield* Effect.withTracerEnabled(store.position, false)
        const reading = { at: yield* monotonicMillis, position }
        if (Option.exists(last, (look) => position.batches !== look.position.batches)) yield* onBatch
        if (Option.isSome(last) && !mayHaveToSeal(last.value, reading, batchEvents)) return last.value
        const look = lookAfter(last, reading, yield* sealAll)
        if (isStuck(look)) yield* warnStuck
        return look
      }).pipe(Effect.zipLeft(onLook), persistently(retry))

    let last = Option.none<Look>()
    while (true) {
      const look = yield* lookAgain(last)
      yield* Effect.sleep(waitAfter(look, yield* monotonicMillis, linger))
      last = Option.some(look)
    }
  })

const warnStuck = Effect.logWarning(
  "Nothing was sealed for a minute: another session of Postgres has the lock of outbox.sealer that sealing takes, which only relays and the owner can. Look in pg_locks who it is, and end it with pg_terminate_backend"
)

/** Waits an outage out. The next one is met with short waits again. */
const persistently =
  (retry: RetryPolicy.Bounds) =>
  <A, R>(effect: Effect.Effect<A, SqlError, R>): Effect.Effect<A, never, R> =>
    effect.pipe(
      Effect.tapError((error) => Effect.logWarning("The outbox cannot be reached", error)),
      Effect.retry(RetryPolicy.schedules(retry).transient),
      // The schedule has no end.
      Effect.orDie
    )

/** How often it is asked whether what was sealed is delivered. */
const POLL_UNTIL_DELIVERED = "50 millis"

/** Seals everything that was committed, due or not, until every event of it is delivered or in a failure. */
export const sealUntilEmpty = ({
  onBatch,
  ...retry
}: RetryPolicy.Bounds & Pick<Options, "onBatch">): Effect.Effect<void, never, OutboxStore> =>
  Effect.gen(function* () {
    const store = yield* OutboxStore
    let wasPaused = false
    const isDelivered = Effect.gen(function* () {
      if (!(yield* store.hasPending)) return true
      const pause = yield* store.relayPause
      if (Option.isSome(pause) && !wasPaused) yield* warnPaused(pause.value)
      wasPaused = Option.isSome(pause)
      return false
    })
    const isEmpty = Effect.gen(function* () {
      // Before it is sealed too: what is left of a batch that is delivered in part is published again.
      const wasDelivered = yield* isDelivered
      const sealed = yield* store.seal({ flush: true })
      if (sealed._tag === "Batch") {
        yield* onBatch
        return false
      }
      if (yield* isDelivered) return wasDelivered && sealed._tag === "Nothing"
      yield* Effect.delay(isDelivered, POLL_UNTIL_DELIVERED).pipe(Effect.repeat({ until: (delivered) => delivered }))
      return false
    })
    yield* isEmpty.pipe(persistently(retry), Effect.repeat({ until: (empty) => empty }))
    yield* store.status.pipe(
      Effect.flatMap(warnFailed),
      Effect.catchAll((error) => Effect.logWarning("Whether failures are open could not be looked up", error))
    )
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
