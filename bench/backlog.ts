/**
 * What a backlog costs: how fast events are sealed, delivered and acknowledged when few and when many are undelivered,
 * and when an idle transaction keeps an old snapshot. The goal: within 10 % of each other.
 *
 * One step after the other, so that none takes the processor from another:
 * 1. Seal, timed batch by batch by the store itself, until nothing is left.
 * 2. Deliver, by a relay that comes back to all of it. The clock runs from its first events in ClickHouse, so that its
 *    start does not count, until the same number in each case. The smallest backlog is over too soon to be timed.
 * 3. Lease the rest, as a slow relay would, and measure the latency of new events beside it. Unleased, the rest would be
 *    delivered first, and its time would be measured instead.
 */
import { SqlClient } from "@effect/sql"
import { ClickHouse, OutboxStore } from "clickhouse-outbox"
import { Array as Arr, Clock, Console, Effect } from "effect"
import * as Databases from "./databases.ts"
import { bars } from "./harness/chart.ts"
import { Flawed, orError } from "./harness/Flawed.ts"
import { cpuSecondsOfTree, startRelay } from "./harness/processes.ts"
import type { Section } from "./harness/Section.ts"
import { generate } from "./harness/Source.ts"
import { median } from "./harness/statistics.ts"
import { fixed, table, whole } from "./harness/table.ts"
import { measure as measureLatency } from "./latency/measure.ts"

interface Kind {
  readonly name: string
  readonly events: number
  readonly holdsSnapshot: boolean
}

interface Sizes {
  /** The largest comes a second time, with an old snapshot. */
  readonly backlogs: ReadonlyArray<number>
  /** How many of a larger backlog are delivered while the clock runs. */
  readonly delivered: number
  readonly latencySeconds: number
}

const full = (events: number): Sizes => ({
  backlogs: [Math.ceil(events / 10), events, 10 * events],
  delivered: 0.8 * events,
  latencySeconds: 10
})
const QUICK: Sizes = { backlogs: [50_000, 100_000], delivered: 50_000, latencySeconds: 1 }

/** Small enough that the smallest backlog is several batches too. */
const SETTINGS = { OUTBOX_BATCH_EVENTS: "10000" }

const EVENTS_PER_TRANSACTION = 100_000

const kinds = ({ backlogs }: Sizes): ReadonlyArray<Kind> => [
  ...backlogs.map((events) => ({ name: `${whole(events)} undelivered`, events, holdsSnapshot: false })),
  ...backlogs
    .slice(-1)
    .map((events) => ({ name: `${whole(events)}, and an old snapshot`, events, holdsSnapshot: true }))
]

const fill = (events: number) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* Effect.forEach(
      Arr.range(1, Math.ceil(events / EVENTS_PER_TRANSACTION)),
      (transaction) =>
        sql.unsafe(`
        INSERT INTO outbox.event (
          event_type, event_date_time, environment, event_context, context_bytes, metadata_version, event_id, traceparent
        )
        SELECT
          event_type, event_date_time, environment, event_context, octet_length(event_context::text), metadata_version,
          event_id, traceparent
        FROM (${generate((transaction - 1) * EVENTS_PER_TRANSACTION + 1, Math.min(transaction * EVENTS_PER_TRANSACTION, events))}) AS event`),
      { concurrency: 2 }
    )
    yield* sql.unsafe("VACUUM (ANALYZE)")
    // Flush to disk now: a later flush would slow every commit that is measured.
    yield* sql.unsafe("CHECKPOINT")
  })

/** Keeps a snapshot as a forgotten session does, until the scope closes. */
const holdSnapshot = Effect.gen(function* () {
  const connection = yield* (yield* SqlClient.SqlClient).reserve
  yield* connection.executeRaw("BEGIN ISOLATION LEVEL REPEATABLE READ", [])
  yield* connection.executeRaw("SELECT pg_current_xact_id()", [])
  yield* Effect.addFinalizer(() => Effect.ignore(connection.executeRaw("ROLLBACK", [])))
})

const seal = Effect.gen(function* () {
  const begun = yield* Clock.currentTimeNanos
  const sealed = yield* (yield* OutboxStore.OutboxStore).seal({ flush: true })
  const events = sealed._tag === "Batch" ? sealed.batch.eventCount : 0
  return { events, seconds: Number((yield* Clock.currentTimeNanos) - begun) / 1e9 }
})

/**
 * In milliseconds: by the clock the median of all batches, first and last alike, and the CPU that Postgres took, which
 * other programs on the machine cannot change.
 */
const sealEverything = ([postgres]: Databases.Servers) =>
  Effect.gen(function* () {
    const pid = yield* postgres.pid
    const before = cpuSecondsOfTree(pid)
    const times: Array<number> = []
    yield* seal.pipe(
      Effect.tap(({ events, seconds }) => {
        if (events > 0) times.push(seconds * 1_000)
      }),
      Effect.repeat({ while: ({ events }) => events > 0 })
    )
    return {
      batches: times.length,
      median: median(times),
      longest: Math.max(...times),
      cpu: ((cpuSecondsOfTree(pid) - before) * 1_000) / times.length
    }
  })

/** When ClickHouse had this many events, in seconds of the clock. */
const reached = (events: number) =>
  Effect.gen(function* () {
    const { query } = yield* ClickHouse.ClickHouse
    const rows = query("SELECT count() FROM event_log").pipe(Effect.map(([row]) => Number(row?.[0])))
    const count = yield* Effect.zipLeft(rows, Effect.sleep("20 millis")).pipe(
      Effect.repeat({ until: (count) => count >= events })
    )
    return { count, at: Number(yield* Clock.currentTimeNanos) / 1e9 }
  })

const deliver = (events: number, delivered: number) =>
  Effect.gen(function* () {
    yield* startRelay([], yield* Databases.Variables)
    const first = yield* reached(1)
    const last = yield* reached(Math.min(first.count + delivered - 1, events))
    return (last.count - first.count) / (last.at - first.at)
  }).pipe(Effect.scoped)

/** Leases the rest for a day, and waits for ClickHouse's merges, which would cost the next measurement. */
const leaseRest = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* (yield* ClickHouse.ClickHouse).command("OPTIMIZE TABLE event_log FINAL")
  yield* sql`
    UPDATE outbox.batch SET
      available_at = clock_timestamp() + interval '1 day',
      lease_id = gen_random_uuid(),
      lease_owner = 'another relay'
    WHERE state = 'pending'
  `
  const [left] = yield* sql<{ events: number }>`
    SELECT coalesce(sum(event_count), 0)::float8 AS events FROM outbox.batch WHERE state = 'pending'
  `
  return left?.events ?? Number.NaN
})

const measure = (servers: Databases.Servers, sizes: Sizes, kind: Kind, round: number) => {
  const run = `round ${round}, ${kind.name}`
  return Effect.gen(function* () {
    if (kind.holdsSnapshot) yield* holdSnapshot
    yield* Databases.stopAutovacuum
    yield* fill(kind.events)
    const sealing = yield* sealEverything(servers)
    const delivering = kind.events > sizes.delivered ? yield* deliver(kind.events, sizes.delivered) : Number.NaN
    const waiting = yield* leaseRest
    const latency = yield* measureLatency({ run, linger: "50 millis", rate: 1_000, seconds: sizes.latencySeconds })
    const { query } = yield* ClickHouse.ClickHouse
    const [rows] = yield* query("SELECT count(), uniqExact(event_id) FROM event_log")
    if (rows?.[0] !== rows?.[1]) yield* new Flawed({ run, what: `${rows} rows and events` })
    yield* Console.error(
      `${run}: sealing ${fixed(sealing.median, 1)} ms a batch, delivering ${whole(delivering)} events/s, p50 ${whole(latency.p50)} ms`
    )
    return { ...kind, round, sealing, delivering, waiting, latency }
  }).pipe(
    Effect.scoped,
    Effect.provide(Databases.layer(servers, `bench_backlog_${round}`, { settings: SETTINGS })),
    orError
  )
}

export const section: Section = {
  name: "backlog",
  parts: [],
  run: (servers, { events, quick, runs }) =>
    Effect.gen(function* () {
      const sizes = quick ? QUICK : full(events)
      const all = kinds(sizes)
      const done = yield* Effect.forEach(Arr.range(1, runs), (round) =>
        Effect.forEach(all, (kind) => measure(servers, sizes, kind, round))
      ).pipe(Effect.map(Arr.flatten))
      const of = (kind: Kind, value: (run: (typeof done)[number]) => number) =>
        median(done.filter(({ name }) => name === kind.name).map(value))
      const values = [
        { name: "sealing, ms per batch", digits: 1, of: (run: (typeof done)[number]) => run.sealing.median },
        { name: "CPU ms", digits: 1, of: (run: (typeof done)[number]) => run.sealing.cpu },
        { name: "delivering, events/s", digits: 0, of: (run: (typeof done)[number]) => run.delivering },
        { name: "p50 ms", digits: 0, of: (run: (typeof done)[number]) => run.latency.p50 },
        { name: "p99 ms", digits: 0, of: (run: (typeof done)[number]) => run.latency.p99 }
      ]
      const cells = (kind: Kind) =>
        values.flatMap(({ digits, of: value }) => {
          const base = all.map((each) => of(each, value)).find(Number.isFinite) ?? Number.NaN
          const own = of(kind, value)
          return [digits === 0 ? whole(own) : fixed(own, digits), fixed(own / base, 2)]
        })
      return {
        runs: done,
        tables: [
          {
            title: "With a backlog, and how often what it is with the smallest",
            table: table(
              ["", ...values.flatMap(({ name }) => [name, "times"])],
              all.map((kind) => [kind.name, ...cells(kind)])
            )
          }
        ],
        charts: [
          {
            file: "backlog.svg",
            svg: bars(
              "Milliseconds to seal a batch",
              "with so many undelivered, and with a session that holds an old snapshot",
              all.map((kind) => {
                const value = of(kind, ({ sealing }) => sealing.median)
                return { label: kind.name, value, text: `${fixed(value, 1)} ms`, own: true }
              })
            )
          }
        ]
      }
    })
}
