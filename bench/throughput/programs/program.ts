/** What the contestants' programs have in common. They are plain Node, as people write them, without Effect. */
import { once } from "node:events"
import { createClient } from "@clickhouse/client"
import { COLUMNS, JSON_SETTINGS } from "../../harness/Source.ts"

export const variable = (name: string): string => {
  const value = process.env[name]
  if (value === undefined) throw new Error(`${name} is not set`)
  return value
}

/** How many events the run has. */
export const events = Number(variable("EVENTS"))

export const databaseUrl = variable("DATABASE_URL")

export const clickHouse = createClient({
  url: variable("CLICKHOUSE_URL"),
  database: variable("CLICKHOUSE_DATABASE"),
  max_open_connections: 64,
  request_timeout: 600_000,
  clickhouse_settings: JSON_SETTINGS
})

/** A row of `JSONEachRow`. ClickHouse skips further fields, such as an id. */
export type Row = Readonly<Record<string, unknown>>

/** One insert, which ClickHouse does not collect with others: it has many rows already. */
export const insert = (rows: ReadonlyArray<Row>) =>
  clickHouse.insert({
    table: "event_log",
    columns: names(COLUMNS.split(", ")),
    values: rows,
    format: "JSONEachRow",
    clickhouse_settings: { async_insert: 0 }
  })

const names = ([first = "", ...rest]: ReadonlyArray<string>): [string, ...Array<string>] => [first, ...rest]

/** Returns when the clock starts. Connections should be open by then. */
export const begin = async (): Promise<void> => {
  await clickHouse.ping()
  process.stdout.write("ready\n")
  await once(process.stdin, "data")
  process.stdin.destroy()
}

/** Runs a task for each item, with bounded concurrency. */
export const forEach = async <A>(
  items: ReadonlyArray<A>,
  concurrency: number,
  task: (item: A) => Promise<unknown>
): Promise<void> => {
  const rest = items.values()
  const worker = async () => {
    for (const item of rest) await task(item)
  }
  await Promise.all(Array.from({ length: concurrency }, worker))
}

/**
 * Collects rows that concurrent tasks hand in, and inserts them together: as soon as there are `size`, or `wait`
 * milliseconds after the first. A task goes on when its row is in ClickHouse.
 */
export const collector = (size: number, wait: number) => {
  let waiting: Array<{ readonly row: Row; readonly resolve: () => void; readonly reject: (error: unknown) => void }> =
    []
  let timer: NodeJS.Timeout | undefined
  const flush = () => {
    clearTimeout(timer)
    timer = undefined
    const batch = waiting
    waiting = []
    insert(batch.map(({ row }) => row)).then(
      () => {
        for (const { resolve } of batch) resolve()
      },
      (error) => {
        for (const { reject } of batch) reject(error)
      }
    )
  }
  return (row: Row): Promise<void> =>
    new Promise((resolve, reject) => {
      waiting.push({ row, resolve, reject })
      if (waiting.length >= size) flush()
      else timer ??= setTimeout(flush, wait)
    })
}
