/**
 * One request for each event, which ClickHouse collects. The events are in memory when the clock starts, as they are in
 * an application that sends them when its request is done. https://clickhouse.com/docs/optimize/asynchronous-inserts
 */
import pg from "pg"
import { SELECTED } from "../../harness/Source.ts"
import { begin, clickHouse, databaseUrl, events, forEach, type Row, variable } from "./program.ts"

/** As in ClickHouse Cloud. No client waits for these buffers, so they grow for a second, as the relay's batches do. */
const LARGE_BUFFERS = {
  async_insert_use_adaptive_busy_timeout: 0,
  async_insert_busy_timeout_max_ms: 1_000
} as const

const wait = variable("WAIT") === "1" ? 1 : 0

const client = new pg.Client(databaseUrl)
await client.connect()
const { rows } = await client.query<Row>(`SELECT ${SELECTED} FROM bench.source WHERE position <= ${events}`)
await client.end()
await begin()
await forEach(rows, 32, (row) =>
  clickHouse.insert({
    table: "event_log",
    values: [row],
    format: "JSONEachRow",
    clickhouse_settings: { async_insert: 1, wait_for_async_insert: wait, ...(wait === 0 && LARGE_BUFFERS) }
  })
)
await clickHouse.close()
