/**
 * ClickHouse pulls by itself, through its table function. A statement that somebody has to run again and again, with a
 * cursor of their own: it skips what commits late, and what breaks off half-way leaves half.
 * https://clickhouse.com/docs/sql-reference/table-functions/postgresql
 */
import { ClickHouse } from "clickhouse-outbox"
import { Array, Effect } from "effect"
import { COLUMNS, JSON_SETTINGS, ROWS_PER_FILE } from "../harness/Source.ts"
import { type Arena, type Contestant, EVERYTHING } from "./Contestant.ts"

const settings = Object.entries({ ...JSON_SETTINGS, async_insert: 0 })
  .map(([name, value]) => `${name} = ${value}`)
  .join(", ")

const pull = (variables: Arena["variables"], where: string) => {
  const url = new URL(variables.DATABASE_URL)
  return `
    INSERT INTO event_log (${COLUMNS})
    SELECT
      event_type, event_date_time, environment, event_context, metadata_version, event_id,
      splitByChar('-', traceparent)[2]
    FROM postgresql('${url.host}', '${url.pathname.slice(1)}', 'source', '${url.username}', '', 'bench')
    WHERE ${where}
    SETTINGS ${settings}`
}

const postgresql = { name: "postgresql()", schema: undefined, most: EVERYTHING, prepare: () => Effect.void }

export const contestants: ReadonlyArray<Contestant> = [
  {
    ...postgresql,
    variant: "one INSERT SELECT",
    about: "ClickHouse's table function, everything in one statement",
    start: ({ events, variables }) =>
      Effect.map(ClickHouse.ClickHouse, (clickHouse) => ({
        programs: [],
        go: clickHouse.command(pull(variables, `position <= ${events}`)),
        ends: true
      }))
  },
  {
    ...postgresql,
    variant: "50,000 rows, 2 at a time",
    about: "ClickHouse's table function, ranges of the primary key",
    start: ({ events, variables }) =>
      Effect.map(ClickHouse.ClickHouse, (clickHouse) => ({
        programs: [],
        go: Effect.forEach(
          Array.range(1, Math.ceil(events / ROWS_PER_FILE)),
          (batch) => {
            const last = Math.min(batch * ROWS_PER_FILE, events)
            const where = `position > ${(batch - 1) * ROWS_PER_FILE} AND position <= ${last}`
            return clickHouse.command(pull(variables, where))
          },
          { concurrency: 2, discard: true }
        ),
        ends: true
      }))
  }
]
