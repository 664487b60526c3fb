/**
 * How far a run has come: a line that is refreshed on a terminal, a line every second otherwise.
 *
 * Everything is read from Postgres in one snapshot, so that the figures add up. An event's latency is the time from
 * `published_at`, when its row was written, until the relay has recorded that ClickHouse took it; it was visible there
 * a little earlier. Every event is measured, once, when its batch is delivered.
 */
import { SqlClient } from "@effect/sql"
import { OutboxStore } from "clickhouse-outbox"
import { Array, Clock, Console, Effect, Order, Ref, Schedule } from "effect"

interface Progress {
  /** In milliseconds. */
  readonly at: number
  readonly delivered: number
  readonly backlog: number
  /** The newest batch that was looked at. */
  readonly newest: string
  /** Batches up to it that were not delivered yet. */
  readonly open: ReadonlyArray<string>
  /** Histogram: how many events took how many milliseconds. */
  readonly latencies: ReadonlyMap<number, number>
}

/**
 * To be made when everything that was published before the run is delivered.
 *
 * @returns an effect that shows the progress once, and one that keeps showing it
 */
export const make = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const store = yield* OutboxStore.OutboxStore

  const look = (last: Progress) =>
    Effect.gen(function* () {
      yield* sql`SET TRANSACTION ISOLATION LEVEL REPEATABLE READ`
      // Batches that were split or have failed never change again.
      const batches = yield* sql<{ id: string; events: number; state: string }>`
        SELECT id::text, event_count AS events, state
        FROM outbox.batch
        WHERE (id > ${last.newest} OR id = ANY(${last.open}::bigint[])) AND state IN ('pending', 'delivered')
      `
      const [open, delivered] = Array.partition(batches, ({ state }) => state === "delivered")
      const latencies = yield* sql<{ millis: number; events: number }>`
        SELECT (extract(epoch FROM delivered_at - published_at) * 1000)::integer AS millis, count(*)::integer AS events
        FROM outbox.event_status
        WHERE batch_id = ANY(${delivered.map(({ id }) => id)}::bigint[])
        GROUP BY millis
      `
      const { backlog } = yield* store.status
      return {
        at: yield* Clock.currentTimeMillis,
        delivered: delivered.reduce((sum, { events }) => sum + events, last.delivered),
        backlog,
        newest: batches.reduce((newest, { id }) => (BigInt(id) > BigInt(newest) ? id : newest), last.newest),
        open: open.map(({ id }) => id),
        latencies: latencies.reduce(
          (all, { events, millis }) => all.set(millis, (all.get(millis) ?? 0) + events),
          new Map(last.latencies)
        )
      }
    }).pipe(sql.withTransaction)

  const [newest] = yield* sql<{ id: string }>`SELECT coalesce(max(id), 0)::text AS id FROM outbox.batch`
  const start: Progress = {
    at: yield* Clock.currentTimeMillis,
    delivered: 0,
    backlog: 0,
    newest: newest?.id ?? "0",
    open: [],
    latencies: new Map()
  }
  const history = yield* Ref.make(Array.of(start))
  yield* Console.error(COLUMNS.join("  "))

  const show = Effect.gen(function* () {
    const before = yield* Ref.get(history)
    const now = yield* look(Array.lastNonEmpty(before))
    yield* Ref.set(history, Array.append(Array.takeRight(before, SECONDS * PER_SECOND), now))
    yield* write(describe(Array.headNonEmpty(before), now))
  })

  return { show, keepShowing: Effect.repeat(show, Schedule.spaced(1_000 / PER_SECOND)) }
})

const terminal = process.stderr.isTTY
const PER_SECOND = terminal ? 4 : 1
/** What the rate is an average of. */
const SECONDS = 5

const COLUMNS = ["published", "delivered", "backlog", "events/s", "latency p50", "latency p99"]

const row = (cells: ReadonlyArray<string>): string =>
  cells.map((cell, column) => cell.padStart(COLUMNS[column]?.length ?? 0)).join("  ")

const describe = (before: Progress, { at, backlog, delivered, latencies }: Progress): string => {
  const rate = ((delivered - before.delivered) * 1_000) / Math.max(at - before.at, 1)
  return row([
    ...[delivered + backlog, delivered, backlog, Math.round(rate)].map((n) => n.toLocaleString("en")),
    ...[percentile(latencies, 0.5), percentile(latencies, 0.99)]
  ])
}

const percentile = (latencies: Progress["latencies"], share: number): string => {
  const sorted = Array.sortWith(latencies, ([millis]) => millis, Order.number)
  let rest = share * sorted.reduce((sum, [, events]) => sum + events, 0)
  for (const [millis, events] of sorted) {
    rest -= events
    if (rest <= 0) return `${(millis / 1_000).toFixed(2)} s`
  }
  return "-"
}

/** On a terminal the next line takes its place. */
const write = (line: string) => Effect.sync(() => process.stderr.write(terminal ? `\r${line}` : `${line}\n`))
