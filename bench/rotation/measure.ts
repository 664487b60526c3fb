/** One run: the load, what disturbs it, and what Postgres says meanwhile. */
import { SqlClient } from "@effect/sql"
import { ClickHouse } from "clickhouse-outbox"
import { Array as Arr, Console, Effect, Order, Schema } from "effect"
import * as Databases from "../databases.ts"
import { clockAhead, now } from "../harness/clock.ts"
import { Flawed, orError } from "../harness/Flawed.ts"
import { startRelay, startScript } from "../harness/processes.ts"
import { quantile } from "../harness/statistics.ts"
import { whole } from "../harness/table.ts"
import { FIRST, PUBLISH } from "./event.ts"
import { collect, type Sample, STALL_MILLIS, sample, vacuums, waits } from "./look.ts"

export interface Sizes {
  /** A slot is left after half of it. */
  readonly retentionSeconds: number
  readonly loadSeconds: number
  /** How far from a rotation is near, in milliseconds. */
  readonly near: number
}

const SLOTS = 4

/** Shares of the load's time. */
const LONG_TRANSACTION = [0.3, 0.6] as const
const OLD_SNAPSHOT = [0.65, 0.9] as const

/** What its program prints. */
const Published = Schema.parseJson(
  Schema.Struct({ origin: Schema.Number, begun: Schema.Array(Schema.Number), took: Schema.Array(Schema.Number) })
)

/** When it began and ended, in milliseconds of this machine's clock. */
interface Stretch {
  readonly from: number
  readonly to: number
}

/** A session of its own that begins a transaction with this statement, and commits it when the time is over. */
const session = (begin: ReadonlyArray<string>, [first, last]: readonly [number, number], loadSeconds: number) =>
  Effect.gen(function* () {
    const connection = yield* (yield* SqlClient.SqlClient).reserve
    yield* Effect.sleep(first * loadSeconds * 1_000)
    for (const statement of begin) yield* connection.executeRaw(statement, [])
    const from = now()
    yield* Effect.sleep((last - first) * loadSeconds * 1_000)
    const to = now()
    yield* connection.executeRaw("COMMIT", [])
    return { from, to } satisfies Stretch
  }).pipe(Effect.scoped)

/** All events are in ClickHouse, and all slots are empty. */
const drained = (run: string, events: number, { loadSeconds, retentionSeconds }: Sizes) =>
  Effect.gen(function* () {
    const { query } = yield* ClickHouse.ClickHouse
    const [row] = yield* query("SELECT toUInt32(count()) FROM event_log")
    const [last] = yield* sample
    return Number(row?.[0]) >= events && last?.eventBytes === 0
  }).pipe(
    Effect.zipLeft(Effect.sleep("200 millis")),
    Effect.repeat({ until: (done) => done }),
    Effect.timeoutFail({
      duration: (loadSeconds + 4 * retentionSeconds) * 1_000,
      onTimeout: () => new Flawed({ run, what: "the outbox was not empty in time" })
    })
  )

const verify = (run: string, events: number) =>
  Effect.gen(function* () {
    const { query } = yield* ClickHouse.ClickHouse
    const [found] = yield* query("SELECT count(), uniqExact(event_id), uniqExact(metadata_version) FROM event_log")
    if (found === undefined || found.some((value) => Number(value) !== events)) {
      yield* new Flawed({ run, what: `${found} rows, events and numbers instead of ${events}` })
    }
  })

const distinct = (values: ReadonlyArray<number | null | undefined>): ReadonlyArray<number> =>
  Arr.dedupe(values.flatMap((value) => (typeof value === "number" ? [value] : [])))

/** When new rows began to go to another slot, and when slots were emptied, in milliseconds of this machine's clock. */
const rotationsOf = (samples: ReadonlyArray<Sample>, ahead: number) => {
  const emptied = Arr.makeBy(SLOTS, (slot) => distinct(samples.map(({ emptied }) => emptied[slot])))
  // The first time is the relay's start, not a rotation.
  const opened = Arr.sort(distinct(samples.flatMap(({ opened }) => opened)), Order.number).slice(1)
  return {
    moved: opened.map((at) => at - ahead),
    emptied: emptied.map((times) => times.map((at) => at - ahead))
  }
}

/** Of transactions, in milliseconds. */
const summarize = (took: ReadonlyArray<number>) => ({
  transactions: took.length,
  p50: quantile(took, 0.5),
  p99: quantile(took, 0.99),
  p999: quantile(took, 0.999),
  longest: took.reduce((most, each) => Math.max(most, each), 0),
  stalls: took.filter((each) => each > STALL_MILLIS).length
})

export const measure = (servers: Databases.Servers, round: number, sizes: Sizes) => {
  const run = `round ${round}`
  const { loadSeconds, near, retentionSeconds } = sizes
  return Effect.gen(function* () {
    const variables = yield* Databases.Variables
    yield* Databases.stopAutovacuum
    const ahead = yield* clockAhead
    const bytesBefore = (yield* sample)[0]?.bytes ?? Number.NaN
    yield* startRelay([], { ...variables, OUTBOX_EVENT_RETENTION: `${retentionSeconds} seconds` })
    const publisher = yield* startScript("publish", new URL("./programs/publish.ts", import.meta.url), {
      ...variables,
      SECONDS: String(loadSeconds)
    })
    const samples = yield* collect(sample, 200)
    const waiting = yield* collect(waits, 10)
    const finishing = Effect.gen(function* () {
      yield* publisher.go
      const sessions = yield* Effect.all(
        [
          session(["BEGIN", PUBLISH.replace("$1", String(FIRST))], LONG_TRANSACTION, loadSeconds),
          session(["BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT pg_current_snapshot()"], OLD_SNAPSHOT, loadSeconds)
        ],
        { concurrency: "unbounded" }
      )
      const printed = yield* publisher.finished
      yield* waiting.stop
      const published = yield* Schema.decode(Published)(printed.slice(printed.indexOf("{")))
      yield* drained(run, published.took.length + 1, sizes)
      yield* samples.stop
      return { published, sessions }
    })
    const { published, sessions } = yield* Effect.raceFirst(finishing, Effect.raceFirst(samples.failed, waiting.failed))
    const events = published.took.length + 1
    yield* verify(run, events)
    const vacuumed = yield* vacuums
    if (vacuumed !== 0) yield* new Flawed({ run, what: `a table was vacuumed ${vacuumed} times` })

    const rotations = rotationsOf(samples.found, ahead)
    const emptied = rotations.emptied.map((times) => times.length)
    if (rotations.moved.length < SLOTS || emptied.some((times) => times === 0)) {
      yield* new Flawed({ run, what: `moved on ${rotations.moved.length} times, slots emptied ${emptied} times` })
    }
    const times = [...rotations.moved, ...rotations.emptied.flat()]
    const isNear = (from: number, to: number) => times.some((at) => from <= at + near && to >= at - near)
    const [nearOnes, others] = Arr.partition(
      published.begun.map((begun, index) => ({ at: published.origin + begun, took: published.took[index] ?? 0 })),
      ({ at, took }) => !isNear(at, at + took)
    )
    const tookOf = (transactions: ReadonlyArray<{ readonly took: number }>) =>
      summarize(transactions.map(({ took }) => took))
    const seconds = (at: number) => (at - published.origin) / 1_000
    const result = {
      round,
      events,
      rate: published.took.length / loadSeconds,
      moved: rotations.moved.map(seconds),
      emptied: rotations.emptied.map((times) => times.map(seconds)),
      bytes: {
        before: bytesBefore,
        most: samples.found.reduce((most, { bytes }) => Math.max(most, bytes), 0),
        after: samples.found.at(-1)?.bytes ?? Number.NaN
      },
      all: summarize(published.took),
      near: tookOf(nearOnes),
      others: tookOf(others),
      waits: waiting.found.map(({ at, event, sessions }) => ({
        second: seconds(at),
        event,
        sessions,
        near: isNear(at, at)
      })),
      sessions: sessions.map(({ from, to }) => ({ from: seconds(from), to: seconds(to) })),
      samples: samples.found.map(({ at, bytes }) => ({ second: seconds(at), bytes }))
    }
    yield* Console.error(
      `${run}: ${whole(result.rate)} tx/s, moved on ${result.moved.length} times, emptied ${emptied.join(" + ")} slots, ` +
        `longest near a rotation ${whole(result.near.longest)} ms, else ${whole(result.others.longest)} ms`
    )
    return result
  }).pipe(Effect.scoped, Effect.provide(Databases.layer(servers, `bench_rotation_${round}`)), orError)
}

export type Run = Effect.Effect.Success<ReturnType<typeof measure>>
