/** Looking at both databases every few seconds: for the gauges, and for whoever asks whether the relay is ready. */
import type { SqlError } from "@effect/sql/SqlError"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as Schedule from "effect/Schedule"
import { ClickHouseSink } from "../ClickHouseSink.ts"
import { isUnavailable } from "../internal/sqlState.ts"
import * as Metrics from "../Metrics.ts"
import { type NotMigrated, type OutboxGauges, OutboxStore } from "../OutboxStore.ts"
import type { SinkError } from "../SinkError.ts"
import type { Pulse, Seen } from "./health.ts"

const PROBE_EVERY = Duration.seconds(5)
/** A database that is slower than this counts as down. */
const NO_ANSWER_AFTER = Duration.seconds(10)

/**
 * At once, and then every few seconds. Not traced: its spans would be most of all spans. What a database answers is never
 * an error here, and a defect ends the relay, which would otherwise go on with gauges and a readiness that are frozen.
 */
export const probeForever = (pulse: Pulse): Effect.Effect<never, never, OutboxStore | ClickHouseSink> =>
  Effect.gen(function* () {
    const last = yield* Ref.make(Option.none<Seen>())
    const readGauges = yield* gaugesIfChanged
    return yield* probe(pulse, last, readGauges).pipe(
      Effect.repeat(Schedule.spaced(PROBE_EVERY)),
      Effect.withTracerEnabled(false),
      Effect.zipRight(Effect.never)
    )
  })

type ReadGauges = Effect.Effect<OutboxGauges, NotMigrated | SqlError>

/** Touches no table where nothing was undelivered the last time, and no transaction has ended since. */
const gaugesIfChanged: Effect.Effect<ReadGauges, never, OutboxStore> = Effect.gen(function* () {
  const store = yield* OutboxStore
  const known = yield* Ref.make(Option.none<{ readonly transactions: string; readonly outbox: OutboxGauges }>())
  return Effect.gen(function* () {
    const { transactions } = yield* store.position
    const same = Option.filter(yield* Ref.get(known), (known) => known.transactions === transactions)
    if (Option.isSome(same) && same.value.outbox.oldestUndeliveredMillis === 0) return same.value.outbox
    const outbox = yield* store.gauges
    yield* Ref.set(known, Option.some({ transactions, outbox }))
    return outbox
  })
})

const probe = (pulse: Pulse, last: Ref.Ref<Option.Option<Seen>>, readGauges: ReadGauges) =>
  Effect.gen(function* () {
    const sink = yield* ClickHouseSink
    const outbox = yield* inTime(readGauges)
    const table = yield* inTime(sink.check)
    const seen = {
      postgres: Option.map(Either.getLeft(outbox), sayPostgres),
      clickHouse: Option.map(Either.getLeft(table), sayClickHouse),
      outbox: Either.getRight(outbox)
    }
    const before = yield* Ref.getAndSet(last, Option.some(seen))
    yield* logChange({
      database: "Postgres",
      before: Option.flatMap(before, ({ postgres }) => postgres),
      now: outbox
    })
    yield* logChange({
      database: "ClickHouse",
      before: Option.flatMap(before, ({ clickHouse }) => clickHouse),
      now: table
    })
    yield* pulse.probed(seen)
    yield* measure(seen)
    yield* Metric.set(Metrics.relayReady, (yield* pulse.health).ready ? 1 : 0)
  })

class NoAnswer extends Data.TaggedError("NoAnswer") {
  override get message(): string {
    return `no answer within ${Duration.format(NO_ANSWER_AFTER)}`
  }
}

/** Does not wait for what cannot be interrupted, such as a pool that has no connection to spare. */
const inTime = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<Either.Either<A, E | NoAnswer>, never, R> =>
  effect.pipe(
    Effect.disconnect,
    Effect.timeoutFail({ duration: NO_ANSWER_AFTER, onTimeout: () => new NoAnswer() }),
    Effect.either
  )

const DOES_NOT_ANSWER = "does not answer"

const sayPostgres = (error: NoAnswer | NotMigrated | SqlError): string => {
  if (error._tag === "NotMigrated") return error.message
  return error._tag === "NoAnswer" || isUnavailable(error)
    ? DOES_NOT_ANSWER
    : "answers with an error: the relay's log says why"
}

const sayClickHouse = (error: NoAnswer | SinkError): string =>
  error._tag === "SinkError" && error.errorClass === "configuration"
    ? "cannot take events as it is set up: the relay's log says why"
    : DOES_NOT_ANSWER

interface Observed {
  readonly database: string
  /** What was wrong when it was looked at before, if anything. */
  readonly before: Option.Option<string>
  readonly now: Either.Either<unknown, unknown>
}

/** Says why, which {@link Seen} may not: those who ask whether a relay is ready need not be known. */
const logChange = ({ before, database, now }: Observed): Effect.Effect<void> => {
  if (Either.isRight(now) === Option.isNone(before)) return Effect.void
  return Either.match(now, {
    onRight: () => Effect.logInfo(`${database} answers again`),
    onLeft: (error) => Effect.logWarning(`${database} cannot be used`, error)
  })
}

const measure = ({ clickHouse, outbox, postgres }: Seen) =>
  Effect.gen(function* () {
    yield* Metric.set(Metrics.postgresUp, Option.isNone(postgres) ? 1 : 0)
    yield* Metric.set(Metrics.clickHouseUp, Option.isNone(clickHouse) ? 1 : 0)
    const store = yield* OutboxStore
    const connections = yield* store.connections
    yield* Effect.forEach(Metrics.CONNECTION_STATES, (state) =>
      Metric.set(Metrics.postgresConnections(state), connections[state])
    )
    yield* Option.match(outbox, { onNone: () => ageing, onSome: measureOutbox })
  })

/** While Postgres does not answer nothing is delivered, so what waited goes on waiting. */
const ageing = Effect.gen(function* () {
  const { value } = yield* Metric.value(Metrics.oldestUndeliveredSeconds)
  if (value > 0) yield* Metric.set(Metrics.oldestUndeliveredSeconds, value + Duration.toSeconds(PROBE_EVERY))
})

const measureOutbox = (outbox: OutboxGauges) =>
  Effect.gen(function* () {
    yield* Metric.set(Metrics.backlogEvents, outbox.backlogEvents)
    yield* Metric.set(Metrics.oldestUndeliveredSeconds, outbox.oldestUndeliveredMillis / 1_000)
    yield* Effect.forEach(Metrics.UNDELIVERED_STATES, (state) =>
      Metric.set(Metrics.undeliveredBatches(state), outbox.undeliveredBatches[state] ?? 0)
    )
    yield* Metric.set(Metrics.openFailures, outbox.openFailures)
    yield* Metric.set(Metrics.openFailureEvents, outbox.openFailureEvents)
    yield* Effect.forEach(Metrics.INCIDENT_CLASSES, (errorClass) =>
      Metric.set(Metrics.openIncidents(errorClass), outbox.openIncidents[errorClass] ?? 0)
    )
    yield* Metric.set(Metrics.relayPaused, outbox.relayPaused ? 1 : 0)
    yield* Effect.forEach(Object.entries(outbox.slotBytes), ([slot, bytes]) =>
      Metric.set(Metrics.slotBytes(slot), bytes)
    )
  })
