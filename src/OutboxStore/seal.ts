/** Cutting committed events into batches. docs/architecture.md#windows argues why nothing is skipped or doubled. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import type { Fragment } from "@effect/sql/Statement"
import * as Arr from "effect/Array"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberRef from "effect/FiberRef"
import * as Metric from "effect/Metric"
import type { Batch } from "../Batch.ts"
import type * as Config from "../Config.ts"
import * as Metrics from "../Metrics.ts"
import { atomically } from "../Transaction.ts"
import { checkCluster } from "./cluster.ts"
import { CURSOR, from, type Key, type Range } from "./keys.ts"
import { batchColumns, decodeBatch } from "./manifest.ts"
import { type Position, Sealed } from "./model.ts"

export const position = (sql: SqlClient.SqlClient): Effect.Effect<Position, SqlError> =>
  // Sequences are read without a snapshot and without a lock on rows. A snapshot's xmax is one above the newest transaction
  // that has ended.
  sql<{ events: string; batches: string; transactions: string }>`
    SELECT
      (SELECT last_value FROM outbox.event_id_seq) AS events,
      (SELECT last_value FROM outbox.batch_id_seq) AS batches,
      pg_snapshot_xmax(pg_current_snapshot())::text AS transactions
  `.pipe(
    Effect.flatMap((rows) => Effect.orDie(Arr.head(rows))),
    Effect.map(({ batches, events, transactions }) => ({
      events: Number(events),
      batches: Number(batches),
      transactions
    }))
  )

export const seal =
  (sql: SqlClient.SqlClient, config: Config.Outbox) =>
  (options?: { readonly flush: boolean }): Effect.Effect<Sealed, SqlError> =>
    Effect.gen(function* () {
      const position = yield* lock(sql)
      if (position === null) return Sealed.Busy()
      const progress = yield* readProgress(sql)
      if (progress.isForeign) yield* refuse(sql)
      const cut = yield* cutBatch(sql, config, { ...progress, position }, options?.flush ?? false)
      if (cut.token !== null) return Sealed.Batch({ batch: yield* decodeBatch(cut) })
      if (cut.waitingFor === null) return Sealed.Nothing({ transactionsInProgress: cut.transactionsInProgress })
      return Sealed.Waiting({ dueIn: Duration.millis(Math.max(cut.waitingFor, 0)) })
    }).pipe(
      atomically(sql, SETTINGS),
      Effect.withTracerEnabled(false),
      (sealing) => Effect.zip(Clock.currentTimeNanos, sealing),
      Effect.tap(([startTime, sealed]) => (sealed._tag === "Batch" ? report(sealed.batch, startTime) : Effect.void)),
      Effect.map(([, sealed]) => sealed)
    )

const report = ({ byteCount, eventCount, id }: Batch, startTime: bigint) =>
  Effect.gen(function* () {
    const endTime = yield* Clock.currentTimeNanos
    yield* Metric.incrementBy(Metrics.eventsSealed, eventCount)
    yield* Metric.update(Metrics.batchEvents, eventCount)
    yield* Metric.update(Metrics.batchBytes, byteCount)
    yield* Metric.update(Metrics.sealSeconds, Duration.toSeconds(Duration.nanos(endTime - startTime)))
    const attributes = { "batch.id": id, "batch.event_count": eventCount, "batch.byte_count": byteCount }
    yield* Effect.annotateLogs(Effect.logDebug("Sealed a batch"), attributes)
    // Made afterwards: most of the time there is nothing to seal, and a span for each look would bury the others.
    if (!(yield* FiberRef.get(FiberRef.currentTracerEnabled))) return
    const tracer = yield* Effect.tracer
    const parent = yield* Effect.option(Effect.currentParentSpan)
    const span = tracer.span("OutboxStore.seal", parent, Context.empty(), [], startTime, "internal")
    for (const [key, value] of Object.entries(attributes)) span.attribute(key, value)
    span.end(endTime, Exit.void)
  })

/**
 * Hold for this transaction, whatever the database's defaults. At a stricter isolation the snapshot would be older than
 * the lock. A batch must be on disk before it can be sent. A relay that freezes here must not keep the lock. And the plan
 * must not change with the statistics of a table that fills and empties all day.
 */
const SETTINGS = `
  SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
  SET LOCAL synchronous_commit = on;
  SET LOCAL idle_in_transaction_session_timeout = '10s';
  SET LOCAL enable_seqscan = off;
  SET LOCAL enable_bitmapscan = off;
  SET LOCAL enable_sort = off;
  SET LOCAL jit = off`

/**
 * One sealer at a time. An advisory lock, because it assigns no transaction id; a statement of its own, because the
 * snapshot of the next one must be taken after the previous sealer has committed. Returns where the sequence of events is,
 * if the lock is ours: read before that snapshot, so that nothing committed later is taken for sealed.
 */
const lock = (sql: SqlClient.SqlClient) =>
  sql<{ locked: boolean; position: string }>`
    SELECT
      pg_try_advisory_xact_lock(hashtext('clickhouse-outbox'), hashtext('seal')) AS locked,
      CASE WHEN is_called THEN last_value ELSE 0 END AS position
    FROM outbox.event_id_seq
  `.pipe(Effect.map(([row]) => (row?.locked === true ? row.position : null)))

/** Waits until nobody seals, and keeps it so until the transaction ends. */
export const awaitSealer = (sql: SqlClient.SqlClient) =>
  sql`SELECT pg_advisory_xact_lock(hashtext('clickhouse-outbox'), hashtext('seal'))`

interface Progress {
  /** A connection that broke may have come back to another cluster, to which the stored ids mean nothing. */
  readonly isForeign: boolean
  readonly sealed: string
  readonly window: string | null
  /** The last row of the window that is in a batch; null if none is. */
  readonly cursor: Key | null
}

interface Window extends Progress {
  readonly position: string
}

const readProgress = (sql: SqlClient.SqlClient): Effect.Effect<Progress, SqlError> =>
  // Only the holder of the advisory lock writes this row, so what is read here stays true until it commits.
  sql<Progress>`
    SELECT
      system_identifier <> (SELECT system_identifier FROM pg_control_system()) AS "isForeign",
      sealed_snapshot::text AS sealed,
      window_snapshot::text AS "window",
      ${sql.literal(CURSOR)}
    FROM outbox.sealer
  `.pipe(Effect.flatMap((rows) => Effect.orDie(Arr.head(rows))))

/** Nothing that a relay could do about it, nor wait for. */
const refuse = (sql: SqlClient.SqlClient) =>
  checkCluster(sql).pipe(Effect.catchTags({ ForeignCluster: Effect.die, NotMigrated: Effect.die }))

/** How many times `linger` an event may wait for others, where so many batches are in front of it. */
const MOST_LINGERS = 60

interface Cut {
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
const cutBatch = (
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
        -- While batches queue up, such as in an outage, small ones would only make the queue longer.
        SELECT count(*) AS batches
        FROM (
          SELECT FROM outbox.batch WHERE state = 'pending' AND lease_id IS NULL LIMIT ${MOST_LINGERS}
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
        event_types, first_event_date_time, last_event_date_time, first_published_at, traceparents
      )
      SELECT
        ${sealed}::pg_snapshot, ${upper}, tx_ids[1], ids[1], tx_ids[event_count], ids[event_count],
        event_count, byte_count,
        ARRAY(SELECT DISTINCT slot FROM kind),
        ARRAY(SELECT DISTINCT event_type FROM kind),
        first_event_date_time, last_event_date_time, first_published_at,
        CASE
          WHEN traced = 0 THEN '{}'
          ELSE ARRAY(
            SELECT traceparent
            FROM (${first(sql`(SELECT event_count FROM size)`)}) AS events
            WHERE traceparent IS NOT NULL
            LIMIT 32
          )
        END
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
