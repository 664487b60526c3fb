/**
 * Sealing: what was committed becomes batches. docs/architecture.md#windows argues why nothing is skipped or doubled.
 *
 * A window is what one snapshot sees and an earlier one does not. `outbox.sealer` says how far sealing has come:
 *
 * | state | `window_snapshot`, cursor | what is in a batch | the next look |
 * | --- | --- | --- | --- |
 * | between windows | null | what `sealed_snapshot` sees | looks at the window up to now; seals its first batch if that is due. If the window goes on behind it: inside a window |
 * | inside a window | its end, and the last key in a batch | that, and the window up to the cursor | seals the next batch, due or not. If it was the last: between windows |
 *
 * Whatever the state, it is the sealer's of one database and of one timeline. In another database sealing dies. On
 * another timeline it first puts everything undelivered in doubt.
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import type { Fragment } from "@effect/sql/Statement"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberRef from "effect/FiberRef"
import * as Metric from "effect/Metric"
import * as Schema from "effect/Schema"
import { Batch } from "../Batch.ts"
import type * as Config from "../Config.ts"
import * as Metrics from "../Metrics.ts"
import { BATCH_COLUMNS } from "../schema/batches.ts"
import { rowOf } from "../schema/columns.ts"
import { IS_FOREIGN, IS_NEW_TIMELINE, requireOwnDatabase } from "../schema/compatibility.ts"
import { CURSOR } from "../schema/counts.ts"
import { afterKey, Key, type Range } from "../schema/events.ts"
import { atomically } from "../Transaction.ts"
import { type Position, Sealed } from "./model.ts"

const PositionRow = Schema.Struct({ events: Schema.Int, batches: Schema.Int, transactions: Schema.String })

const Lock = Schema.Struct({
  isOurs: Schema.Boolean,
  /** Where the sequence of events is. */
  position: Schema.Int
})

const Progress = Schema.Struct({
  /** A connection that broke may have come back to another database, to which the stored ids mean nothing. */
  isForeign: Schema.Boolean,
  /** Commits may have been lost since the row was written. */
  isNewTimeline: Schema.Boolean,
  sealed: Schema.String,
  window: Schema.NullOr(Schema.String),
  /** The last row of the window that is in a batch; null if none is. */
  cursor: Schema.NullOr(Key)
})

interface Window extends Pick<typeof Progress.Type, "cursor" | "sealed" | "window"> {
  readonly position: number
}

/** Nothing was due. */
const NotDue = Schema.Struct({
  token: Schema.Null,
  /** Milliseconds until the events that are there are due; null if there are none. */
  waitingFor: Schema.NullOr(Schema.Number),
  transactionsInProgress: Schema.Boolean
})

const Look = Schema.Union(NotDue, Batch)

/**
 * Hold for this transaction, whatever the database's defaults. At a stricter isolation the snapshot would be older than
 * the lock. A batch must be on disk before it can be sent. A relay that freezes here must not keep the lock. And the
 * plan must not change with the statistics of a table that fills and empties all day.
 */
const SETTINGS = `
  SET TRANSACTION ISOLATION LEVEL READ COMMITTED READ WRITE;
  SET LOCAL synchronous_commit = on;
  SET LOCAL enable_seqscan = off;
  SET LOCAL enable_bitmapscan = off;
  SET LOCAL enable_sort = off;
  SET LOCAL jit = off`

/**
 * A batch becomes a part of ClickHouse's table for each month of its events, and each part takes some 15 ms: one event in
 * each of 4,800 months, which is 9,600 bytes, would stall delivery for more than a minute. So many are what ClickHouse by
 * itself allows an insert (`max_partitions_per_insert_block`).
 */
const MAX_MONTHS = 100

/** How many times `linger` an event may wait for others, where so many batches are in front of it. */
const MAX_LINGERS = 60

export const make = (
  sql: SqlClient.SqlClient,
  { batchBytes, batchEvents, linger }: Pick<Config.Outbox, "batchBytes" | "batchEvents" | "linger">
) => {
  /** Sequences are read without a snapshot and without a lock on rows. */
  const position: Effect.Effect<Position, SqlError> = rowOf(PositionRow)(sql`
    SELECT
      (SELECT last_value::float8 FROM outbox.event_id_seq) AS events,
      (SELECT last_value::float8 FROM outbox.batch_id_seq) AS batches,
      -- One above the newest transaction that has ended.
      pg_snapshot_xmax(pg_current_snapshot())::text AS transactions
  `)

  const seal = (options?: { readonly flush: boolean }): Effect.Effect<Sealed, SqlError> =>
    Effect.gen(function* () {
      const { isOurs, position } = yield* lock
      if (!isOurs) return Sealed.Busy()
      const progress = yield* readProgress
      // There is nothing that a relay could do about it, nor wait for.
      if (progress.isForeign) yield* Effect.catchTag(requireOwnDatabase(sql), "ForeignDatabase", Effect.die)
      if (progress.isNewTimeline) {
        yield* enterTimeline(sql)
        return Sealed.Waiting({ dueIn: Duration.zero })
      }
      const look = yield* sealBatch({ ...progress, position }, options?.flush ?? false)
      if (look instanceof Batch) return Sealed.Batch({ batch: look })
      if (look.waitingFor === null) return Sealed.Nothing({ transactionsInProgress: look.transactionsInProgress })
      return Sealed.Waiting({ dueIn: Duration.millis(Math.max(look.waitingFor, 0)) })
    }).pipe(
      atomically(sql, SETTINGS),
      Effect.withTracerEnabled(false),
      (sealing) => Effect.zip(Clock.currentTimeNanos, sealing),
      Effect.tap(([startTime, sealed]) => (sealed._tag === "Batch" ? report(sealed.batch, startTime) : Effect.void)),
      Effect.map(([, sealed]) => sealed)
    )

  /**
   * One sealer at a time. The lock assigns no transaction id. It is a statement of its own, because the snapshot of the
   * next one must be taken after the previous sealer has committed. So the position, too, is read before that snapshot:
   * nothing that is committed later is taken for sealed.
   */
  const lock = rowOf(Lock)(sql`
    SELECT
      outbox.take_turn('seal') AS "isOurs",
      (CASE WHEN is_called THEN last_value ELSE 0 END)::float8 AS position
    FROM outbox.event_id_seq
  `)

  /** Only the holder of that lock moves these columns, so what is read here stays true until it commits. */
  const readProgress = rowOf(Progress)(sql`
    SELECT
      ${sql.literal(IS_FOREIGN)} AS "isForeign",
      ${sql.literal(IS_NEW_TIMELINE)} AS "isNewTimeline",
      sealed_snapshot::text AS sealed,
      window_snapshot::text AS "window",
      ${sql.literal(CURSOR)}
    FROM outbox.sealer
  `)

  /**
   * One statement reads the window, seals the batch, stores it and advances the sealer, so that it happens whole or not
   * at all.
   *
   * The window ends at this statement's own snapshot, taken before the statement assigns a transaction id: whatever
   * writes after it, this statement included, has an id that is not below the snapshot's xmax and falls into the next
   * window. A window that holds more than one batch is kept until it is sealed to its end.
   *
   * The events are read at least twice, each time straight from the index into an aggregate: kept for one look after
   * the other they would not fit into work_mem.
   */
  const sealBatch = (
    { cursor, position, sealed, window }: Window,
    flush: boolean
  ): Effect.Effect<typeof Look.Type, SqlError> => {
    const upper = sql`coalesce(${window}::pg_snapshot, pg_current_snapshot())`
    const lingerMillis = Duration.toMillis(linger)
    /** As ClickHouse partitions its table. */
    const monthOf = (time: Fragment) =>
      sql`(extract(year FROM ${time} AT TIME ZONE 'UTC') * 12 + extract(month FROM ${time} AT TIME ZONE 'UTC'))`
    /** The window's first events by key. An inner limit lets both index ranges be merged without a sort. */
    const firstEvents = (limit: Fragment) => {
      const range = (events: Range) => sql`
        SELECT *
        FROM ${sql.literal(`outbox.${events}`)}(${sealed}::pg_snapshot, ${upper})
        WHERE ${sql.literal(afterKey(events, { fromSnapshot: sealed, key: cursor }))}
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
    return rowOf(Look)(sql`
        WITH candidates AS MATERIALIZED (
          -- One more than a batch holds: tells whether the window goes on behind it. A sorted subquery's rows are
          -- aggregated in its order: https://www.postgresql.org/docs/current/functions-aggregate.html
          SELECT
            count(*) AS count,
            sum(context_bytes) AS bytes,
            array_agg(tx_id) AS tx_ids,
            array_agg(id) AS ids,
            ${monthOf(sql`max(event_date_time)`)} - ${monthOf(sql`min(event_date_time)`)} AS months_apart
          FROM (${firstEvents(sql`${batchEvents + 1}`)}) AS events
        ),
        fitting AS MATERIALIZED (
          SELECT
            CASE
              WHEN count = 0 OR bytes <= ${batchBytes} THEN least(count, ${batchEvents})
              ELSE (
                SELECT greatest(count(*), 1)
                FROM (
                  SELECT sum(context_bytes) OVER (ORDER BY tx_id, id ROWS UNBOUNDED PRECEDING) AS bytes
                  FROM (${firstEvents(sql`${batchEvents}`)}) AS events
                ) AS running
                WHERE running.bytes <= ${batchBytes}
              )
            END AS event_count
          FROM candidates
        ),
        size AS MATERIALIZED (
          -- Hardly ever are they so far apart that the months have to be counted.
          SELECT
            CASE
              WHEN months_apart >= ${MAX_MONTHS} THEN (
                SELECT count(*)
                FROM (
                  SELECT sum(begun) OVER (ORDER BY tx_id, id ROWS UNBOUNDED PRECEDING) AS months
                  FROM (
                    SELECT
                      tx_id, id,
                      (row_number() OVER (PARTITION BY ${monthOf(sql`event_date_time`)} ORDER BY tx_id, id) = 1)::integer AS begun
                    FROM (${firstEvents(sql`(SELECT event_count FROM fitting)`)}) AS events
                  ) AS event
                ) AS running
                WHERE running.months <= ${MAX_MONTHS}
              )
              ELSE event_count
            END AS event_count
          FROM fitting, candidates
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
          FROM (${firstEvents(sql`(SELECT event_count FROM size)`)}) AS events
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
            -- While batches queue up, such as in an outage, small ones would only make the queue longer. What failed
            -- before another batch arrived waits for an operator or for its own turn, and what was requeued lets all
            -- others go first: nothing queues up behind them.
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
              LIMIT ${MAX_LINGERS}
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
                FROM (${firstEvents(sql`(SELECT event_count FROM size)`)}) AS events
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
          -- A window that goes on is kept, with the last key that is in a batch; one that is sealed to its end is
          -- behind us.
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
          -- Ids were given, nothing is there, and no publisher is still at it, who would hold a lock: these ids are not
          -- to be taken for events that wait.
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
          ${sql.literal(BATCH_COLUMNS)},
          (SELECT millis::float8 FROM waiting) AS "waitingFor",
          pg_snapshot_xmin(pg_current_snapshot()) <> pg_snapshot_xmax(pg_current_snapshot()) AS "transactionsInProgress"
        FROM (VALUES (1)) AS one_row
        LEFT JOIN sealed AS batch ON true
    `)
  }

  return { position, seal }
}

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

const Timeline = Schema.Struct({ timeline: Schema.Int })

/**
 * A new timeline of Postgres' write-ahead log: a standby was promoted, or a backup recovered to a point in time. After
 * either, nobody can tell whether commits were lost, and with them what relays wrote down of deliveries. So whatever is
 * undelivered here may be in ClickHouse, under tokens that nobody knows any more: ClickHouse is asked for it before any
 * of it is sent. If nothing was lost, that is one question for each batch.
 *
 * Nothing that was committed before is trusted, whether it is in a batch already or sealed later. The lock of sealing
 * is held. A batch that is leased meanwhile is leased in doubt.
 */
const enterTimeline = (sql: SqlClient.SqlClient): Effect.Effect<void, SqlError> =>
  Effect.gen(function* () {
    const { timeline } = yield* rowOf(Timeline)(sql`
      UPDATE outbox.sealer SET
        timeline = outbox.current_timeline(),
        doubt_before = greatest(doubt_before, pg_snapshot_xmax(pg_current_snapshot())),
        doubted_at = clock_timestamp()
      RETURNING timeline
    `)
    const pending = yield* doubtPending(sql)
    yield* Effect.logWarning(
      `Postgres is on timeline ${timeline} now: in a fail-over or a recovery commits may have been lost. ClickHouse is asked for what is undelivered, ${pending} batches and what is not in one, before it is sent`
    )
  })

/** Returns how many batches that are. */
export const doubtPending = (sql: SqlClient.SqlClient): Effect.Effect<number, SqlError> =>
  Effect.map(
    sql`UPDATE outbox.batch SET ask_first = true WHERE state = 'pending' RETURNING id`,
    (batches) => batches.length
  )
