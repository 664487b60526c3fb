/**
 * How far a run has come, once a second: a line that is refreshed on a terminal, a line each otherwise.
 *
 * Everything is read from Postgres, in one snapshot, so that the figures add up. An event's latency is the time from
 * `published_at`, when its row was written, until the relay has recorded ClickHouse's answer to the insert it was in: a
 * little more than it took to become visible. Every event is measured, once.
 */
import { SqlClient } from "@effect/sql"
import { OutboxStore } from "clickhouse-outbox"
import { Array, Clock, Effect, Order, Ref, Schedule } from "effect"

interface Batch {
  readonly id: string
  readonly events: number
  readonly delivered: boolean
}

/** What is known of the run. */
interface State {
  /** The newest batch that was looked at. */
  readonly newest: string
  /** Those up to it that were not delivered yet. */
  readonly open: ReadonlyArray<string>
  readonly delivered: number
  /** How many events took so many milliseconds. */
  readonly latencies: ReadonlyMap<number, number>
}

/** At a point in time, in milliseconds. */
interface Sample {
  readonly at: number
  readonly delivered: number
}

/** To be made before the run's first event is published, and when all those before it are delivered. */
export const make = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const store = yield* OutboxStore.OutboxStore
  const [newest] = yield* sql<{ id: string }>`SELECT coalesce(max(id), 0)::text AS id FROM outbox.batch`
  const state = yield* Ref.make<State>({ newest: newest?.id ?? "0", open: [], delivered: 0, latencies: new Map() })
  const samples = yield* Ref.make<ReadonlyArray<Sample>>([{ at: yield* Clock.currentTimeMillis, delivered: 0 }])

  const look = Effect.gen(function* () {
    yield* sql`SET TRANSACTION ISOLATION LEVEL REPEATABLE READ`
    const before = yield* Ref.get(state)
    const batches = yield* sql<Batch>`
      SELECT id::text AS id, event_count AS events, state = 'delivered' AS delivered
      FROM outbox.batch
      WHERE id > ${before.newest} OR id = ANY(${before.open})
      ORDER BY id
    `
    const [open, delivered] = Array.partition(batches, (batch) => batch.delivered)
    const times = yield* sql<{ millis: number; events: number }>`
      SELECT (extract(epoch FROM delivered_at - published_at) * 1000)::integer AS millis, count(*)::integer AS events
      FROM outbox.event_status
      WHERE batch_id = ANY(${delivered.map(({ id }) => id)})
      GROUP BY millis
    `
    const after = {
      newest: batches.at(-1)?.id ?? before.newest,
      open: open.map(({ id }) => id),
      delivered: delivered.reduce((sum, { events }) => sum + events, before.delivered),
      latencies: times.reduce(
        (all, { events, millis }) => all.set(millis, (all.get(millis) ?? 0) + events),
        new Map(before.latencies)
      )
    }
    yield* Ref.set(state, after)
    const { backlog } = yield* store.status
    return { ...after, backlog, published: after.delivered + backlog }
  }).pipe(sql.withTransaction)
})
