/**
 * From commit to acknowledged: for each event, from when its transaction's COMMIT was answered to when its batch was
 * acknowledged.
 *
 * A relay acknowledges a batch after ClickHouse has answered that it is there, so a time is a few milliseconds too long
 * rather than too short. ClickHouse itself is asked only when all is over: polling it all the time would take much of the
 * two cores that the relay has to share.
 */
import { SqlClient } from "@effect/sql"
import { ClickHouse } from "clickhouse-outbox"
import { Effect, Schema } from "effect"
import * as Databases from "../databases.ts"
import { clockAhead } from "../harness/clock.ts"
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
  /** The relay's linger; none for its default. */
  readonly linger: string | undefined
  readonly rate: number
  readonly seconds: number
}

/** The first of the versions that only these events have. */
const FIRST = 1_000_000

/** The first events find a relay whose code has not been compiled yet. */
const WARM_UP_SECONDS = 2

const LOST_AFTER = "60 seconds"

const Times = Schema.parseJson(Schema.Array(Schema.Number))

const delivered = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql<{ events: number; batches: number }>`
    SELECT coalesce(sum(event_count), 0)::integer AS events, count(*)::integer AS batches
    FROM outbox.batch
    WHERE state = 'delivered' AND 'tick' = ANY (event_types)
  `
)

/** A batch's events among those of its window. */
const within = (events: string) => `
  SELECT metadata_version, event_type
  FROM outbox.${events}(batch.from_snapshot, batch.to_snapshot)
  WHERE (tx_id, id) >= (batch.first_tx_id, batch.first_id) AND (tx_id, id) <= (batch.last_tx_id, batch.last_id)`

const MEMBERS = `${within("window_late_events")} UNION ALL ${within("window_new_events")}`

/** When each event's batch was acknowledged, by the event's number, in milliseconds of Postgres' clock. */
const acknowledged = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql<{ number: number; at: number }>`
    SELECT
      (events.metadata_version - ${FIRST})::integer AS number,
      extract(epoch FROM batch.delivered_at)::float8 * 1000 AS at
    FROM outbox.batch, LATERAL (${sql.literal(MEMBERS)}) AS events
    WHERE batch.state = 'delivered' AND 'tick' = ANY (batch.event_types) AND events.event_type = 'tick'
  `
).pipe(Effect.map((rows) => new Map(rows.map(({ at, number }) => [number, at]))))

export const measure = ({ linger, rate, run, seconds }: Options) =>
  Effect.gen(function* () {
    const variables = yield* Databases.Variables
    const { query } = yield* ClickHouse.ClickHouse
    const ahead = yield* clockAhead
    const events = rate * (seconds + WARM_UP_SECONDS)
    yield* startRelay([], { ...variables, ...(linger !== undefined && { OUTBOX_LINGER: linger }) })
    const publisher = yield* startScript(run, new URL("./programs/publish.ts", import.meta.url), {
      ...variables,
      RATE: String(rate),
      EVENTS: String(events),
      FIRST: String(FIRST)
    })
    yield* publisher.go
    const printed = yield* publisher.finished
    const committed = yield* Schema.decode(Times)(printed.slice(printed.indexOf("[")))
    const [all] = yield* delivered.pipe(
      Effect.zipLeft(Effect.sleep("200 millis")),
      Effect.repeat({ until: ([row]) => row?.events === events }),
      Effect.timeoutFail({
        duration: LOST_AFTER,
        onTimeout: () => new Flawed({ run, what: `not all of ${events} events were delivered` })
      })
    )
    const acknowledgedAt = yield* acknowledged
    const [found] = yield* query(
      `SELECT count(), uniqExact(event_id), uniqExact(metadata_version) FROM event_log WHERE event_type = 'tick'`
    )
    if (found?.some((value) => Number(value) !== events)) {
      yield* new Flawed({ run, what: `${found} rows, events and numbers instead of ${events}` })
    }
    const latencies = committed
      .slice(rate * WARM_UP_SECONDS)
      .map((at, index) => (acknowledgedAt.get(rate * WARM_UP_SECONDS + index) ?? Number.NaN) - ahead - at)
    const latency: Latency = {
      events: latencies.length,
      p50: quantile(latencies, 0.5),
      p99: quantile(latencies, 0.99),
      max: Math.max(...latencies),
      batchesPerSecond: (all?.batches ?? Number.NaN) / (events / rate)
    }
    return latency
  }).pipe(Effect.scoped)
