/**
 * What it costs to give space back: an outbox whose slots rotate every few seconds, as they do every half day where
 * nothing is set, under publishers at full speed.
 *
 * Nothing is vacuumed. One transaction publishes at its start and commits late, one session does nothing but hold an old
 * snapshot. Every event must be in ClickHouse once, and every slot emptied, or the run is an error.
 *
 * A stall that rotation causes is told from those of a machine with too few cores by when it is: a transaction counts as
 * near where it overlaps the time around a rotation, which is when new rows begin to go to another slot, or when a slot
 * is emptied. Postgres is also asked all the time what publishers wait for: a rotation could hold them up by a lock on a
 * table only. The goal: no stall of more than 100 ms.
 */
import { SqlClient } from "@effect/sql"
import { ClickHouse } from "clickhouse-outbox"
import { Array as Arr, Console, Effect, Fiber, Order, Schema } from "effect"
import * as Databases from "../databases.ts"
import { area } from "../harness/chart.ts"
import { Flawed, orError } from "../harness/Flawed.ts"
import { startRelay, startScript } from "../harness/processes.ts"
import type { Section } from "../harness/Section.ts"
import { median, quantile } from "../harness/statistics.ts"
import { type Cell, fixed, table, whole } from "../harness/table.ts"
import { APPLICATION, FIRST, PUBLISH } from "./event.ts"

interface Sizes {
  /** A slot is left after half of it. */
  readonly retentionSeconds: number
  readonly loadSeconds: number
  /** How far from a rotation is near, in milliseconds. */
  readonly near: number
}

const FULL: Sizes = { retentionSeconds: 20, loadSeconds: 180, near: 1_000 }
const QUICK: Sizes = { retentionSeconds: 3, loadSeconds: 12, near: 200 }

const SLOTS = 4

/** Shares of the load's time. */
const LONG_TRANSACTION = [0.3, 0.6] as const
const OLD_SNAPSHOT = [0.65, 0.9] as const

const STALL_MILLIS = 100

const MEGABYTE = 1 << 20

const now = () => performance.timeOrigin + performance.now()

/** What its program prints. */
const Published = Schema.parseJson(
  Schema.Struct({ origin: Schema.Number, begun: Schema.Array(Schema.Number), took: Schema.Array(Schema.Number) })
)

const vacuums = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql<{ count: number }>`
    SELECT sum(vacuum_count + autovacuum_count)::float8 AS count FROM pg_stat_user_tables WHERE schemaname = 'outbox'
  `
).pipe(Effect.map(([row]) => row?.count ?? Number.NaN))

/** How many milliseconds Postgres' clock is ahead of this one: nothing on one machine. */
const clockAhead = Effect.gen(function* () {
  const asked = now()
  const [row] = yield* (yield* SqlClient.SqlClient)<{ at: number }>`
    SELECT extract(epoch FROM clock_timestamp())::float8 * 1000 AS at
  `
  return (row?.at ?? Number.NaN) - (asked + now()) / 2
})

interface Sample {
  /** In milliseconds of this machine's clock. */
  readonly at: number
  readonly bytes: number
  readonly eventBytes: number
  readonly slot: number
  /** Of each slot, in milliseconds of Postgres' clock. */
  readonly opened: ReadonlyArray<number | null>
  readonly emptied: ReadonlyArray<number | null>
}

const sample = Effect.gen(function* () {
  const [row] = yield* (yield* SqlClient.SqlClient)<Omit<Sample, "at">>`
    SELECT
      (
        SELECT sum(pg_total_relation_size(oid))::float8
        FROM pg_class
        WHERE relnamespace = 'outbox'::regnamespace AND relkind IN ('r', 'S')
      ) AS bytes,
      (
        SELECT sum(pg_relation_size(inhrelid))::float8 FROM pg_inherits WHERE inhparent = 'outbox.event'::regclass
      ) AS "eventBytes",
      outbox.current_slot() AS slot,
      (SELECT array_agg(extract(epoch FROM opened_at)::float8 * 1000 ORDER BY slot) FROM outbox.slot) AS opened,
      (SELECT array_agg(extract(epoch FROM emptied_at)::float8 * 1000 ORDER BY slot) FROM outbox.slot) AS emptied
  `
  return Arr.fromNullable(row).map((row): Sample => ({ ...row, at: now() }))
})

/** What publishers were seen to wait for, and how many of them. */
interface Wait {
  readonly at: number
  readonly event: string
  readonly sessions: number
}

/** Of those that wait for a table, or have waited for long. */
const waits = Effect.gen(function* () {
  const rows = yield* (yield* SqlClient.SqlClient)<Omit<Wait, "at">>`
    SELECT coalesce(wait_event_type || ': ' || wait_event, 'a processor') AS event, count(*)::integer AS sessions
    FROM pg_stat_activity
    WHERE application_name = ${APPLICATION} AND state = 'active'
      AND (
        (wait_event_type = 'Lock' AND wait_event = 'relation')
        OR clock_timestamp() - query_start > ${STALL_MILLIS / 2} * interval '1 millisecond'
      )
    GROUP BY 1
  `
  return rows.map((row): Wait => ({ ...row, at: now() }))
})

const ON_A_TABLE = "Lock: relation"

/** Again and again, until it is stopped. What was found is in the array. */
const collect = <A, E, R>(look: Effect.Effect<ReadonlyArray<A>, E, R>, pause: number) =>
  Effect.gen(function* () {
    const found: Array<A> = []
    let stopped = false
    const looking = yield* look.pipe(
      Effect.tap((each) => Effect.sync(() => found.push(...each))),
      Effect.zipRight(Effect.sleep(pause)),
      Effect.repeat({ until: () => stopped }),
      Effect.forkScoped
    )
    const stop = Effect.sync(() => {
      stopped = true
    })
    return { found, stop, failed: Effect.zipRight(Fiber.join(looking), Effect.never) }
  })

/** When it began and ended, in milliseconds of this machine's clock. */
interface Stretch {
  readonly from: number
  readonly to: number
}

/** A session of its own that begins a transaction so, and commits it when that time is over. */
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
  // The first of all times is the relay's start, not a rotation.
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

const measure = (servers: Databases.Servers, round: number, sizes: Sizes) => {
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

type Run = Effect.Effect.Success<ReturnType<typeof measure>>

const transactions = (runs: ReadonlyArray<Run>, near: number): string => {
  const rows = [
    ["all", (run: Run) => run.all],
    [`within ${near / 1_000} s of a rotation`, (run: Run) => run.near],
    ["the others", (run: Run) => run.others]
  ] as const
  return table(
    ["transactions", "number", "p50 ms", "p99 ms", "p99.9 ms", "longest ms", `over ${STALL_MILLIS} ms`],
    rows.map(([name, kind]): ReadonlyArray<Cell> => {
      const of = (value: (each: Run["all"]) => number) => median(runs.map((run) => value(kind(run))))
      return [
        name,
        whole(of((each) => each.transactions)),
        ...[of((each) => each.p50), of((each) => each.p99), of((each) => each.p999)].map((value) => fixed(value, 1)),
        // Not the median: one is one too many.
        fixed(Math.max(...runs.map((run) => kind(run).longest)), 1),
        whole(runs.reduce((sum, run) => sum + kind(run).stalls, 0))
      ]
    })
  )
}

const space = (runs: ReadonlyArray<Run>): string => {
  const of = (value: (run: Run) => number) => median(runs.map(value))
  const megabytes = (value: (run: Run) => number) => fixed(of(value) / MEGABYTE, 1)
  return table(
    ["", ""],
    [
      ["events", whole(of(({ events }) => events))],
      ["events published per second", whole(of(({ rate }) => rate))],
      ["new rows went to the next slot, times", whole(of(({ moved }) => moved.length))],
      ["slots emptied, times", whole(of(({ emptied }) => emptied.flat().length))],
      ["MB of the schema outbox before", megabytes(({ bytes }) => bytes.before)],
      ["at most", megabytes(({ bytes }) => bytes.most)],
      ["when everything had been delivered", megabytes(({ bytes }) => bytes.after)]
    ]
  )
}

/** How often publishers were seen to wait for a table, which must be never, and for what those waited that took long. */
const waited = (runs: ReadonlyArray<Run>): string => {
  const all = runs.flatMap(({ waits }) => waits)
  const seen = (event: string, near: boolean) =>
    whole(
      all.filter((each) => each.event === event && each.near === near).reduce((sum, each) => sum + each.sessions, 0)
    )
  return table(
    ["publishers seen to wait", "near a rotation", "else"],
    Arr.dedupe([ON_A_TABLE, ...all.map(({ event }) => event).sort()]).map((event) => [
      event === ON_A_TABLE ? `${event}, however short` : `${event}, over ${STALL_MILLIS / 2} ms`,
      seen(event, true),
      seen(event, false)
    ])
  )
}

const NAMES = ["a transaction is open", "an old snapshot is held"]

const chart = (run: Run): string =>
  area(
    "Megabytes of the outbox while its slots rotate",
    `${whole(run.rate)} events a second, nothing vacuumed; marks where a slot was emptied`,
    {
      points: run.samples.map(({ bytes, second }) => ({ x: second, y: bytes / MEGABYTE })),
      marks: run.emptied.flat(),
      spans: run.sessions.map(({ from, to }, index) => ({ from, to, label: NAMES[index] ?? "" })),
      unit: { x: "s", y: "MB" }
    }
  )

export const section: Section = {
  name: "rotation",
  parts: [],
  run: (servers, { quick, runs }) =>
    Effect.gen(function* () {
      const sizes = quick ? QUICK : FULL
      const done = yield* Effect.forEach(Arr.range(1, runs), (round) => measure(servers, round, sizes))
      return {
        runs: done,
        tables: [
          { title: `Rotation, with a retention of ${sizes.retentionSeconds} seconds`, table: space(done) },
          { title: "What publishers notice of it", table: transactions(done, sizes.near) },
          { title: "What they wait for", table: waited(done) }
        ],
        charts: done.slice(0, 1).map((run) => ({ file: "rotation.svg", svg: chart(run) }))
      }
    })
}
