/** The statement that seals. docs/architecture.md#windows argues why nothing is skipped or doubled. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import type { Fragment } from "@effect/sql/Statement"
import * as Arr from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Config from "../Config.ts"
import { from, type Key, type Range } from "../schema/keys.ts"
import { batchColumns } from "../schema/manifest.ts"

export interface Progress {
  /** A connection that broke may have come back to another cluster, to which the stored ids mean nothing. */
  readonly isForeign: boolean
  /** Commits may have been lost since it was stored. */
  readonly isNewTimeline: boolean
  readonly sealed: string
  readonly window: string | null
  /** The last row of the window that is in a batch; null if none is. */
  readonly cursor: Key | null
}

export interface Window extends Progress {
  readonly position: string
}

/** How many times `linger` an event may wait for others, where so many batches are in front of it. */
const MOST_LINGERS = 60

export interface Cut {
  /** Null unless a batch was cut; the batch's other columns come with it. */
  readonly token: string | null
  /** Milliseconds until the events that are there are due; null if there are none. */
  readonly waitingFor: number | null
  readonly transactionsInProgress: boolean
}

/**
 * One statement reads the window, cuts the batch, stores it and moves on, so that it happens whole or not at all.
 *
 * The window ends at this statement's own snapshot, taken before the statement assigns a transaction id: whatever
 * writes after it, this statement included, has an id that is not below the snapshot's xmax and falls into the next
 * window. A window that holds more than one batch is kept until it has been cut to the end.
 *
 * The events are read at least twice, each time straight from the index into an aggregate: kept for one look after the
 * other they would not fit into work_mem.
 */
export const cutBatch = (
  sql: SqlClient.SqlClient,
  { batchBytes, batchEvents, linger }: Config.Outbox,
  { cursor, position, sealed, window }: Window,
  flush: boolean
): Effect.Effect<Cut, SqlError> => {
  const upper = sql`coalesce(${window}::pg_snapshot, pg_current_snapshot())`
  const lingerMillis = Duration.toMillis(linger)
  /** The window's first events by key. An inner limit lets both index ranges be merged without a sort. */
  const first = (limit: Fragment) => {
    const range = (events: Range) => sql`
      SELECT *
      FROM ${sql.literal(`outbox.${events}`)}(${sealed}::pg_snapshot, ${upper})
      WHERE ${sql.literal(from(events, sealed, ">", cursor))}
      ORDER BY tx_id, id
      LIMIT ${limit}
    `
    return sql`
      SELECT *
      FROM ((${range("window_late_events")}) UNION ALL (${range("window_new_events")})) AS events
      ORDER BY tx_id, id
      LIMIT ${limit}
    `
  }
  return sql<Cut>`
    WITH candidates AS MATERIALIZED (
      -- One more than a batch holds: tells whether the window goes on behind it. A sorted subquery's rows are aggregated
      -- in its order: https://www.postgresql.org/docs/current/functions-aggregate.html
      SELECT count(*) AS count, sum(context_bytes) AS bytes, array_agg(tx_id) AS tx_ids, array_agg(id) AS ids
      FROM (${first(sql`${batchEvents + 1}`)}) AS events
    ),
    size AS MATERIALIZED (
      SELECT
        CASE
          WHEN count = 0 OR bytes <= ${batchBytes} THEN least(count, ${batchEvents})
          ELSE (
            SELECT greatest(count(*), 1)
            FROM (
              SELECT sum(context_bytes) OVER (ORDER BY tx_id, id ROWS UNBOUNDED PRECEDING) AS bytes
              FROM (${first(sql`${batchEvents}`)}) AS events
            ) AS running
            WHERE running.bytes <= ${batchBytes}
          )
        END AS event_count
      FROM candidates
    ),
    kind AS MATERIALIZED (
      SELECT
        event_type,
        slot,
        sum(context_bytes) AS byte_count,
        min(event_date_time) AS first_event_date_time,
        max(event_date_time) AS last_event_date_time,
        min(published_at) AS first_published_at,
        count(traceparent) AS traced
      FROM (${first(sql`(SELECT event_count FROM size)`)}) AS events
      GROUP BY event_type, slot
    ),
    total AS (
      SELECT
        (SELECT event_count FROM size) AS event_count,
        (SELECT event_count < count FROM size, candidates) AS goes_on,
        sum(byte_count) AS byte_count,
        min(first_event_date_time) AS first_event_date_time,
        max(last_event_date_time) AS last_event_date_time,
        min(first_published_at) AS first_published_at,
        sum(traced) AS traced
      FROM kind
    ),
    waiting AS (
      SELECT
        extract(epoch FROM greatest(total.first_published_at, sealer.sealed_at) - clock_timestamp()) * 1000
          + ${lingerMillis} * greatest(backlog.batches, 1) AS millis
      FROM total, outbox.sealer, (
        -- While batches queue up, such as in an outage, small ones would only make the queue longer. What failed before
        -- another batch arrived waits for an operator or for its own turn, and what was requeued lets all others go first:
        -- nothing queues up behind them.
        SELECT count(*) AS batches
        FROM (
          SELECT
          FROM outbox.batch
          WHERE state = 'pending'
            AND lease_id IS NULL
            AND was_delivered_at IS NULL
            AND coalesce(
              first_error_at > (SELECT max(delivered_at) FROM outbox.batch WHERE state = 'delivered'),
              true
            )
          LIMIT ${MOST_LINGERS}
        ) AS queue
      ) AS backlog
      WHERE total.event_count > 0
    ),
    due AS (
      SELECT total.*
      FROM total, waiting
      WHERE ${flush} OR ${window !== null} OR goes_on OR event_count = ${batchEvents} OR waiting.millis <= 0
    ),
    sealed AS (
      INSERT INTO outbox.batch (
        from_snapshot, to_snapshot, first_tx_id, first_id, last_tx_id, last_id, event_count, byte_count, slots,
        event_types, first_event_date_time, last_event_date_time, first_published_at, traceparents,
        ask_first
      )
      SELECT
        ${sealed}::pg_snapshot, ${upper}, tx_ids[1], ids[1], tx_ids[event_count], ids[event_count],
        event_count, byte_count,
        ARRAY(SELECT DISTINCT slot FROM kind),
        ARRAY(SELECT DISTINCT event_type::text FROM kind),
        first_event_date_time, last_event_date_time, first_published_at,
        CASE
          WHEN traced = 0 THEN '{}'
          ELSE ARRAY(
            SELECT traceparent
            FROM (${first(sql`(SELECT event_count FROM size)`)}) AS events
            WHERE traceparent IS NOT NULL
            LIMIT 32
          )
        END,
        -- The first key is of the oldest transaction.
        tx_ids[1] < (SELECT doubt_before FROM outbox.sealer)
      FROM due, candidates
      RETURNING *
    ),
    advanced AS (
      -- A window that goes on is kept, with the last key that is in a batch; one that is cut to the end is behind us.
      UPDATE outbox.sealer SET
        sealed_snapshot = CASE WHEN total.goes_on THEN sealed_snapshot ELSE ${upper} END,
        window_snapshot = CASE WHEN total.goes_on THEN ${upper} END,
        cursor_tx_id = CASE WHEN total.goes_on THEN sealed.last_tx_id END,
        cursor_id = CASE WHEN total.goes_on THEN sealed.last_id END,
        -- When the window that ends here was begun is not known: what came since is not in it.
        event_position = CASE
          WHEN total.goes_on OR ${window !== null} THEN least(event_position + total.event_count, ${position}::bigint)
          ELSE ${position}::bigint
        END,
        sealed_at = clock_timestamp()
      FROM total LEFT JOIN sealed ON true
      WHERE sealed.id IS NOT NULL OR (${window !== null} AND total.event_count = 0)
    ),
    rolled_back AS (
      -- Ids were given, nothing is there, and nobody who publishes is still at it, who would hold a lock: not to be taken
      -- for events that wait.
      UPDATE outbox.sealer SET event_position = ${position}::bigint
      FROM total
      WHERE total.event_count = 0
        AND ${window === null}
        AND event_position <> ${position}::bigint
        AND NOT EXISTS (
          SELECT
          FROM pg_locks
          WHERE relation = 'outbox.event'::regclass
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND mode = 'RowExclusiveLock'
        )
    )
    SELECT
      ${batchColumns(sql)},
      (SELECT millis::float8 FROM waiting) AS "waitingFor",
      pg_snapshot_xmin(pg_current_snapshot()) <> pg_snapshot_xmax(pg_current_snapshot()) AS "transactionsInProgress"
    FROM (VALUES (1)) AS one_row
    LEFT JOIN sealed AS batch ON true
  `.pipe(Effect.flatMap((rows) => Effect.orDie(Arr.head(rows))))
}
