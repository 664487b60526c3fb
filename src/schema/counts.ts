/** What is in the outbox, counted, and how far sealing has come: for people and programs that ask. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { atomically } from "../Transaction.ts"
import { WAITING, WAITS_SINCE } from "./batches.ts"
import { firstRowOf, rfc3339, rowOf } from "./columns.ts"
import { afterKey, Key, PLAN_SETTINGS, type Range } from "./events.ts"
import { OutboxStatus, RelayPause } from "./status.ts"

/** A query that hangs would keep the next one from being made. */
const SETTINGS = `
  SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY;
  SET LOCAL statement_timeout = '5s';
  ${PLAN_SETTINGS}`

/**
 * With one snapshot for all statements: where sealing has come to, and what there is beyond it. Two statements, because
 * what is joined to the sealer's row is not looked up in an index.
 */
export const consistently = (sql: SqlClient.SqlClient) => atomically(sql, SETTINGS)

/** The sealer's cursor as a {@link Key}, or null. */
export const CURSOR = `
  CASE
    WHEN cursor_id IS NOT NULL THEN jsonb_build_object('txId', cursor_tx_id::text, 'id', cursor_id::text)
  END AS cursor`

const Sealer = Schema.Struct({
  sealed: Schema.String,
  /** The end of the window of which a part is sealed; null if there is none. */
  window: Schema.NullOr(Schema.String),
  /** The last row of that window that is in a batch. */
  cursor: Schema.NullOr(Key),
  /** How many ids were given since. */
  unsealed: Schema.Int
})
export type Sealer = typeof Sealer.Type

export const readSealer = (sql: SqlClient.SqlClient): Effect.Effect<Sealer, SqlError> =>
  // The sequence may be ahead of the snapshot: what was published meanwhile counts already.
  rowOf(Sealer)(sql`
    SELECT
      sealed_snapshot::text AS sealed,
      window_snapshot::text AS "window",
      ${sql.literal(CURSOR)},
      greatest(CASE WHEN is_called THEN last_value ELSE 0 END - event_position, 0)::float8 AS unsealed
    FROM outbox.sealer, outbox.event_id_seq
  `)

/** Open failures, and how many of their events were not replayed yet. One row. */
export const OPEN_FAILURES = `
  SELECT
    count(*)::integer AS failures,
    (coalesce(sum(event_count), 0) - coalesce(sum((
      SELECT count(*)
      FROM outbox.batch_failure_event AS event
      WHERE event.failure_id = failure.id AND event.replayed_at IS NOT NULL
    )), 0))::float8 AS events
  FROM outbox.batch_failure AS failure
  WHERE state = 'open'`

const Pending = Schema.Struct({ pending: Schema.Boolean })

/** Whether a batch is sealed and undelivered. One entry of an index. */
export const hasPending = (sql: SqlClient.SqlClient): Effect.Effect<boolean, SqlError> =>
  Effect.map(
    rowOf(Pending)(sql`SELECT EXISTS (SELECT FROM outbox.batch WHERE state = 'pending') AS pending`),
    ({ pending }) => pending
  )

/** The columns of a {@link RelayPause}. */
export const PAUSE_COLUMNS = `paused_by, reason, ${rfc3339("paused_at")} AS paused_at`

/** The pause of all relays, if there is one. */
export const relayPause = (sql: SqlClient.SqlClient): Effect.Effect<Option.Option<RelayPause>, SqlError> =>
  firstRowOf(RelayPause)(sql`SELECT ${sql.literal(PAUSE_COLUMNS)} FROM outbox.relay_pause`)

/** One snapshot: an event is counted in exactly one place. */
export const status = (sql: SqlClient.SqlClient): Effect.Effect<OutboxStatus, SqlError> =>
  readSealer(sql).pipe(
    Effect.flatMap((sealer) => rowOf(OutboxStatus)(readStatus(sql, sealer))),
    consistently(sql)
  )

const readStatus = (sql: SqlClient.SqlClient, { cursor, sealed, window }: Sealer) => {
  const published = (events: Range, of: { since: string; until: string | null; behind: Key | null }) => sql`
    SELECT published_at
    FROM ${sql.literal(`outbox.${events}`)}(
      ${of.since}::pg_snapshot, coalesce(${of.until}::pg_snapshot, pg_current_snapshot())
    )
    WHERE ${sql.literal(afterKey(events, { fromSnapshot: of.since, key: of.behind }))}
  `
  const beyond = { since: window ?? sealed, until: null, behind: null }
  const left = { since: sealed, until: window ?? sealed, behind: cursor }
  return sql`
    WITH unsealed AS (
      -- Beyond the last window, or in the part of it that is not sealed yet.
      SELECT count(*) AS events, min(published_at) AS oldest
      FROM (
        ${published("window_late_events", beyond)}
        UNION ALL
        ${published("window_new_events", beyond)}
        UNION ALL
        ${published("window_late_events", left)}
        UNION ALL
        ${published("window_new_events", left)}
      ) AS events
    ),
    pending AS (
      SELECT coalesce(sum(${sql.literal(WAITING)}), 0) AS events, min(${sql.literal(WAITS_SINCE)}) AS oldest
      FROM outbox.batch
      WHERE state = 'pending'
    ),
    states AS (
      SELECT state, count(*) AS batches FROM outbox.batch_status GROUP BY state
    )
    SELECT
      (unsealed.events + pending.events)::float8 AS backlog,
      round(extract(epoch FROM clock_timestamp() - least(unsealed.oldest, pending.oldest)) * 1000)::float8
        AS oldest_undelivered_ms,
      unsealed.events::float8 AS unsealed,
      (
        SELECT jsonb_object_agg(name, coalesce(states.batches, 0))
        FROM unnest('{sealed,leased,retrying,blocked,delivered,failed}'::text[]) AS name
        LEFT JOIN states ON states.state = name
      ) AS batches,
      (SELECT to_jsonb(open) FROM (${sql.literal(OPEN_FAILURES)}) AS open) AS open_failures,
      (SELECT count(*)::integer FROM outbox.incident WHERE closed_at IS NULL) AS open_incidents,
      (SELECT to_jsonb(pause) FROM (SELECT ${sql.literal(PAUSE_COLUMNS)} FROM outbox.relay_pause) AS pause) AS relay_pause,
      (
        SELECT ${sql.literal(rfc3339("max(at)"))}
        FROM (
          SELECT max(delivered_at) AS at FROM outbox.batch WHERE state = 'delivered'
          UNION ALL
          SELECT max(was_delivered_at) FROM outbox.batch WHERE was_delivered_at IS NOT NULL
        ) AS delivered
      ) AS last_delivered_at,
      (
        SELECT jsonb_build_object(
          'batch_id', id, 'class', error_class, 'code', error_code, 'message', error_message, 'attempts', attempts
        )
        FROM outbox.batch
        WHERE state = 'pending' AND error_class IS NOT NULL
        ORDER BY was_delivered_at IS NOT NULL, id
        LIMIT 1
      ) AS last_error
    FROM unsealed, pending
  `
}
