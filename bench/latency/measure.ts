/**
 * From commit to visible: for each event, from when its transaction's COMMIT was answered to when a query of
 * `event_log` first returned it.
 *
 * A column with the time of insertion would be earlier than that, as rows are seen only when their part is complete. So
 * ClickHouse is asked all the time, which takes it part of the two cores that the relay has to share; and a time is when
 * the answer was there, so that it is too long by a few milliseconds rather than too short.
 */
import { SqlClient } from "@effect/sql"
import { ClickHouse } from "clickhouse-outbox"
import { Effect, Schema } from "effect"
import * as Databases from "../databases.ts"
import { Flawed } from "../harness/Flawed.ts"
import { startRelay, startScript } from "../harness/processes.ts"
import { quantile } from "../harness/statistics.ts"

export interface Latency {
  readonly events: number
  readonly p50: number
  readonly p99: number
  readonly max: number
  readonly batchesPerSecond: number
}

interface Options {
  readonly run: string
  /** Of the relay; none for its default. */
  readonly linger: string | undefined
  readonly rate: number
  readonly seconds: number
}

/** Versions that no other event has. */
const FIRST = 1_000_000

/** The first events find a relay whose code has not been compiled yet. */
const WARM_UP_SECONDS = 2

const now = () => performance.timeOrigin + performance.now()

const POLL = "4 millis"

const LOST_AFTER = "60 seconds"

const Times = Schema.parseJson(Schema.Array(Schema.Number))

/** When each event was first seen, by its number. Ends when all have been. */
const watch = (events: number) =>
  Effect.gen(function* () {
    const { query } = yield* ClickHouse.ClickHouse
    const seen = new Map<number, number>()
    // Everything below has been seen: it need not be read again.
    let next = 0
    let rows = 0
    const looks = Effect.gen(function* () {
      const [row] = yield* query("SELECT count() FROM event_log")
      if (Number(row?.[0]) === rows) return
      rows = Number(row?.[0])
      const found = yield* query(
        `SELECT metadata_version FROM event_log WHERE event_type = 'tick' AND metadata_version >= ${FIRST + next}`
      )
      const at = now()
      for (const [version] of found) {
        const number = Number(version) - FIRST
        if (!seen.has(number)) seen.set(number, at)
      }
      while (seen.has(next)) next++
    })
    yield* Effect.zipLeft(looks, Effect.sleep(POLL)).pipe(Effect.repeat({ until: () => seen.size >= events }))
    return seen
  })

export const measure = ({ linger, rate, run, seconds }: Options) =>
  Effect.gen(function* () {
    const variables = yield* Databases.Variables
    const { query } = yield* ClickHouse.ClickHouse
    const events = rate * (seconds + WARM_UP_SECONDS)
    yield* startRelay([], { ...variables, ...(linger !== undefined && { OUTBOX_LINGER: linger }) })
    const publisher = yield* startScript(run, new URL("./programs/publish.ts", import.meta.url), {
      ...variables,
      RATE: String(rate),
      EVENTS: String(events),
      FIRST: String(FIRST)
    })
    const watching = yield* Effect.fork(watch(events))
    yield* publisher.go
    const printed = yield* publisher.finished
    const committed = yield* Schema.decode(Times)(printed.slice(printed.indexOf("[")))
    const seen = yield* watching.pipe(
      Effect.timeoutFail({
        duration: LOST_AFTER,
        onTimeout: () => new Flawed({ run, what: `not all of ${events} events were seen` })
      })
    )
    const [found] = yield* query(
      `SELECT count(), uniqExact(event_id), uniqExact(metadata_version) FROM event_log WHERE event_type = 'tick'`
    )
    if (found?.some((value) => Number(value) !== events)) {
      yield* new Flawed({ run, what: `${found} rows, events and numbers instead of ${events}` })
    }
    const latencies = committed
      .slice(rate * WARM_UP_SECONDS)
      .map((at, index) => (seen.get(rate * WARM_UP_SECONDS + index) ?? Number.NaN) - at)
    const sql = yield* SqlClient.SqlClient
    const [batches] = yield* sql<{ inserts: number }>`
      SELECT count(*)::integer AS inserts FROM outbox.batch WHERE state = 'delivered' AND 'tick' = ANY (event_types)
    `
    const latency: Latency = {
      events: latencies.length,
      p50: quantile(latencies, 0.5),
      p99: quantile(latencies, 0.99),
      max: Math.max(...latencies),
      batchesPerSecond: (batches?.inserts ?? Number.NaN) / (events / rate)
    }
    return latency
  }).pipe(Effect.scoped)
