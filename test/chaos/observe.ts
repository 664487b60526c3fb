/** What is in the databases, read past all proxies. */
import * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { ClickHouse } from "../../src/ClickHouse.ts"
import type { Failed, Row } from "./judge.ts"
import { APPLICATION } from "./writers.ts"

/** Connections that a crash has broken are found out one by one, and a server that starts takes its time. */
const again = Effect.retry(Schedule.spaced("100 millis").pipe(Schedule.upTo("60 seconds")))

export const ask = <A>(question: (sql: SqlClient.SqlClient) => Effect.Effect<ReadonlyArray<A>, SqlError>) =>
  Effect.flatMap(SqlClient.SqlClient, question).pipe(again, Effect.orDie)

export const askClickHouse = (statement: string, parameters: Readonly<Record<string, string>> = {}) =>
  Effect.flatMap(ClickHouse, (clickHouse) => clickHouse.query(statement, parameters)).pipe(again, Effect.orDie)

/** Transactions of writers that Postgres has not ended yet. */
export const openTransactions = ask(
  (sql) => sql`SELECT pid FROM pg_stat_activity WHERE application_name = ${APPLICATION} AND state <> 'idle'`
)

export const markers = ask((sql) => sql<{ id: string }>`SELECT id FROM chaos.marker`).pipe(
  Effect.map((rows) => new Set(rows.map(({ id }) => id)))
)

/** Before the next round. Everything before it has been judged. */
export const forget = ask((sql) => sql.unsafe("TRUNCATE chaos.marker, chaos.history"))

export const rowsOf = (environment: string) =>
  askClickHouse(
    `SELECT
       toString(event_id), event_type, toString(event_date_time), environment, toJSONString(event_context),
       metadata_version
     FROM event_log
     WHERE environment = {environment:String}
     -- So that a dot in a key is printed as one.
     SETTINGS json_type_escape_dots_in_keys = 1, output_format_json_quote_64bit_integers = 0`,
    { environment }
  ).pipe(
    Effect.map((rows) =>
      rows.map(
        ([eventId, eventType, eventDateTime, env, context, version]): Row => ({
          eventId: String(eventId),
          eventType: String(eventType),
          eventDateTime: String(eventDateTime),
          environment: String(env),
          context: JSON.parse(String(context)),
          metadataVersion: Number(version)
        })
      )
    )
  )

export const countRows = Effect.map(askClickHouse("SELECT count() FROM event_log"), ([row]) => Number(row?.[0]))

/** Environments of which an event is there twice, over all rounds. */
export const doubledOverall = askClickHouse(`
  SELECT environment, count() - uniqExact(event_id) AS doubled FROM event_log GROUP BY environment HAVING doubled > 0
`)

export interface OpenFailure extends Failed {
  readonly failureId: number
}

export const openFailures = ask(
  (sql) => sql<OpenFailure>`
    SELECT failure_id::integer AS "failureId", event_id::text AS "eventId", parked
    FROM outbox.failed_event
    WHERE state = 'open' AND replayed_at IS NULL
    ORDER BY failure_id
  `
)

/** What the relays did in a round, by the manifest's history. Of each repair, the token of the batch it is of. */
export const deeds = ask(
  (sql) => sql<{ batches: number; repeated: number; repairedEvents: number; repaired: Array<string> }>`
    WITH batches AS (
      SELECT (batch).id, max((batch).attempts) AS attempts FROM chaos.history GROUP BY (batch).id
    ),
    repairs AS (
      SELECT DISTINCT ON ((batch).repair_token) (batch).token, cardinality((batch).repair_event_ids) AS events
      FROM chaos.history
      WHERE (batch).repair_token IS NOT NULL
    )
    SELECT
      (SELECT count(*)::integer FROM batches) AS batches,
      (SELECT count(*)::integer FROM batches WHERE attempts > 1) AS repeated,
      (SELECT coalesce(sum(events), 0)::integer FROM repairs) AS "repairedEvents",
      ARRAY(SELECT token::text FROM repairs) AS repaired
  `
).pipe(Effect.flatMap((rows) => (rows[0] ? Effect.succeed(rows[0]) : Effect.dieMessage("no answer"))))

/** All that is known of one event. */
export const historyOf = (eventId: string, marker: string | undefined) =>
  Effect.gen(function* () {
    const rows = yield* askClickHouse(
      "SELECT _part, event_type, toString(event_date_time), environment FROM event_log WHERE event_id = {id:UUID}",
      { id: eventId }
    )
    const failures = yield* ask(
      (sql) => sql`
        SELECT failure_id, batch_id, state, parked, replayed_at, corrected_at
        FROM outbox.failed_event WHERE event_id = ${eventId}
      `
    )
    const statuses = yield* ask((sql) => sql`SELECT * FROM outbox.event_status WHERE event_id = ${eventId}`)
    const batches = yield* ask(
      (sql) => sql`
        SELECT
          at, (batch).id, (batch).state, (batch).attempts, (batch).settled_attempts, (batch).lease_id,
          (batch).lease_owner, (batch).event_count, (batch).token, (batch).parent_id, (batch).repair_token,
          cardinality((batch).repair_event_ids) AS repaired, (batch).error_message, (batch).first_attempt_at
        FROM chaos.history, (
          SELECT tx_id FROM chaos.marker WHERE id = ${marker ?? null}
          UNION
          SELECT tx_id FROM outbox.event WHERE event_id = ${eventId}
        ) AS written
        WHERE tx_id BETWEEN (batch).first_tx_id AND (batch).last_tx_id
          AND pg_visible_in_snapshot(tx_id, (batch).to_snapshot)
          AND NOT pg_visible_in_snapshot(tx_id, (batch).from_snapshot)
        ORDER BY history.id
      `
    )
    return { rows, failures, statuses, batches }
  })
