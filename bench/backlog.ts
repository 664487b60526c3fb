/**
 * What a backlog costs: how fast events are sealed, delivered and seen when few and when many are undelivered, and when
 * a transaction that does nothing holds an old snapshot. The goal: within 10 % of each other.
 *
 * One after the other, so that none takes the processor from another. Sealing is timed batch by batch, by the store
 * itself, until nothing is left to seal. Delivering is a relay that comes back to all that: from its first events in
 * ClickHouse, so that its start does not count, to as many in each case. Then the rest is put off, as if ClickHouse had
 * refused it for now, and the latency of new events is measured while it waits.
 */
import { SqlClient } from "@effect/sql"
import { ClickHouse, OutboxStore } from "clickhouse-outbox"
import { Array as Arr, Clock, Console, Effect } from "effect"
import * as Databases from "./databases.ts"
import { Flawed, orError } from "./harness/Flawed.ts"
import { startRelay } from "./harness/processes.ts"
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
  readonly small: number
  readonly large: number
  /** How many of them are delivered while the clock runs. */
  readonly delivered: number
  readonly latencySeconds: number
}

const FULL: Sizes = { small: 1_000_000, large: 10_000_000, delivered: 500_000, latencySeconds: 10 }
const QUICK: Sizes = { small: 200_000, large: 1_000_000, delivered: 150_000, latencySeconds: 3 }

const EVENTS_PER_TRANSACTION = 100_000

const kinds = ({ large, small }: Sizes): ReadonlyArray<Kind> => [
  { name: `${whole(small)} undelivered`, events: small, holdsSnapshot: false },
  { name: `${whole(large)} undelivered`, events: large, holdsSnapshot: false },
  { name: `${whole(small)}, and an old snapshot`, events: small, holdsSnapshot: true }
]

const fill = (events: number) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* Effect.forEach(
      Arr.range(1, events / EVENTS_PER_TRANSACTION),
      (transaction) =>
        sql.unsafe(`
        INSERT INTO outbox.event (
          event_type, event_date_time, environment, event_context, metadata_version, event_id, traceparent
        )
        SELECT event_type, event_date_time, environment, event_context, metadata_version, event_id, traceparent
        FROM (${generate((transaction - 1) * EVENTS_PER_TRANSACTION + 1, transaction * EVENTS_PER_TRANSACTION)}) AS event`),
      { concurrency: 2 }
    )
    yield* sql.unsafe("VACUUM (ANALYZE)")
    // On disk by now: what is written later would hold up every commit that is measured.
    yield* sql.unsafe("CHECKPOINT")
  })

/** As a forgotten session would, until the scope closes. */
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

/** Events per second, as the median of all batches: what the last cost counts as what the first did. */
const sealEverything = Effect.gen(function* () {
  const rates: Array<number> = []
  yield* seal.pipe(
    Effect.tap(({ events, seconds }) => {
      if (events > 0) rates.push(events / seconds)
    }),
    Effect.repeat({ while: ({ events }) => events > 0 })
  )
  return median(rates)
})

/** When ClickHouse had so many, in seconds of the clock. */
const reached = (events: number) =>
  Effect.gen(function* () {
    const { query } = yield* ClickHouse.ClickHouse
    const rows = query("SELECT count() FROM event_log").pipe(Effect.map(([row]) => Number(row?.[0])))
    const count = yield* Effect.zipLeft(rows, Effect.sleep("20 millis")).pipe(
      Effect.repeat({ until: (count) => count >= events })
    )
    return { count, at: Number(yield* Clock.currentTimeNanos) / 1e9 }
  })

const deliver = (delivered: number) =>
  Effect.gen(function* () {
    yield* startRelay([], yield* Databases.Variables)
    const first = yield* reached(1)
    const last = yield* reached(first.count + delivered - 1)
    return (last.count - first.count) / (last.at - first.at)
  }).pipe(Effect.scoped)

/** No relay may take the rest today, and ClickHouse has merged what came: that would cost the next measurement. */
const putOff = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* (yield* ClickHouse.ClickHouse).command("OPTIMIZE TABLE event_log FINAL")
  yield* sql`
    UPDATE outbox.batch SET available_at = clock_timestamp() + interval '1 day', lease_id = NULL WHERE state = 'pending'
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
    yield* fill(kind.events)
    const sealing = yield* sealEverything
    const delivering = yield* deliver(sizes.delivered)
    const waiting = yield* putOff
    const latency = yield* measureLatency({ run, linger: "50 millis", rate: 1_000, seconds: sizes.latencySeconds })
    const { query } = yield* ClickHouse.ClickHouse
    const [rows] = yield* query("SELECT count(), uniqExact(event_id) FROM event_log")
    if (rows?.[0] !== rows?.[1]) yield* new Flawed({ run, what: `${rows} rows and events` })
    yield* Console.error(
      `${run}: sealing ${whole(sealing)} events/s, delivering ${whole(delivering)} events/s, p50 ${whole(latency.p50)} ms`
    )
    return { ...kind, round, sealing, delivering, waiting, latency }
  }).pipe(Effect.scoped, Effect.provide(Databases.layer(servers, `bench_backlog_${round}`)), orError)
}

export const section: Section = {
  name: "backlog",
  parts: [],
  run: (servers, { quick, runs }) =>
    Effect.gen(function* () {
      const sizes = quick ? QUICK : FULL
      const all = kinds(sizes)
      const done = yield* Effect.forEach(Arr.range(1, runs), (round) =>
        Effect.forEach(all, (kind) => measure(servers, sizes, kind, round))
      ).pipe(Effect.map(Arr.flatten))
      const of = (kind: Kind | undefined, value: (run: (typeof done)[number]) => number) =>
        median(done.filter(({ name }) => name === kind?.name).map(value))
      const values = [
        (run: (typeof done)[number]) => run.sealing,
        (run: (typeof done)[number]) => run.delivering,
        (run: (typeof done)[number]) => run.latency.p50,
        (run: (typeof done)[number]) => run.latency.p99
      ]
      return {
        runs: done,
        tables: [
          {
            title: "With a backlog, and how often what it is with the smallest",
            table: table(
              [
                "",
                ...["sealing, events/s", "delivering, events/s", "p50 ms", "p99 ms"].flatMap((name) => [name, "times"])
              ],
              all.map((kind) => [
                kind.name,
                ...values.flatMap((value) => [whole(of(kind, value)), fixed(of(kind, value) / of(all[0], value), 2)])
              ])
            )
          }
        ],
        charts: []
      }
    })
}
