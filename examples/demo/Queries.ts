/** What an analyst might ask ClickHouse about a run, and the answers as tables. */
import { ClickHouse } from "clickhouse-outbox"
import { Array, Effect } from "effect"
import { NOBODY } from "./Drive.ts"

interface Query {
  readonly question: string
  readonly columns: ReadonlyArray<string>
  readonly sql: string
}

const queries: ReadonlyArray<Query> = [
  {
    question: "How do users come, and in how many requests?",
    columns: ["origin", "users", "requests"],
    sql: `
      SELECT event_context.origin.:String AS origin, count() AS users, uniqExact(trace_id)
      FROM event_log
      WHERE event_type = 'user_created' AND environment = {run:String}
      GROUP BY origin
      ORDER BY users DESC`
  },
  {
    question: "Where do they come from, and who is invited most?",
    columns: ["country", "users", "invited", "share of users"],
    sql: `
      SELECT
        event_context.country.:String AS country,
        count() AS users,
        countIf(event_context.origin.:String = 'invitation'),
        bar(users, 0, sum(users) OVER (), 40)
      FROM event_log
      WHERE event_type = 'user_created' AND environment = {run:String}
      GROUP BY country
      ORDER BY users DESC, country
      LIMIT 5`
  },
  {
    question: "Which events did the refused requests leave?",
    columns: ["e-mail taken", "no e-mail", "invited by nobody"],
    sql: `
      SELECT
        count() - uniqExact(event_context.email.:String),
        countIf(event_context.email.:String IS NULL),
        countIf(event_context.invitedBy.:String = '${NOBODY}')
      FROM event_log
      WHERE event_type = 'user_created' AND environment = {run:String}`
  }
]

/** @param run the environment that the run's events carry */
export const answers = (run: string) =>
  Effect.flatMap(ClickHouse.ClickHouse, (clickHouse) =>
    Effect.forEach(queries, ({ columns, question, sql }) =>
      Effect.map(clickHouse.query(sql, { run }), (rows) => `${question}\n\n${table(columns, rows)}\n`)
    )
  ).pipe(Effect.map((tables) => tables.join("\n")))

/** Numbers to the right, text to the left. */
const table = (columns: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<unknown>>): string => {
  const cells = columns.map((name, column) => {
    const values = rows.map((row) => row[column])
    const texts = [
      name,
      ...values.map((value) => (typeof value === "number" ? value.toLocaleString("en") : `${value}`))
    ]
    const width = Math.max(...texts.map((text) => text.length))
    const numeric = values.every((value) => typeof value === "number")
    return texts.map((text) => (numeric ? text.padStart(width) : text.padEnd(width)))
  })
  const lines = Array.makeBy(rows.length + 1, (row) => cells.map((column) => column[row]).join("  "))
  return lines.map((line) => `  ${line.trimEnd()}`).join("\n")
}
