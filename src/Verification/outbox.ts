/** The outbox's side of a comparison: which batches were delivered, and requeueing those that ClickHouse lacks events of. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import type * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Batch } from "../Batch.ts"
import type { EventId } from "../Event.ts"
import { rfc3339 } from "../schema/columns.ts"
import { batchColumns, decodeBatch } from "../schema/manifest.ts"
import { only, PLAN_SETTINGS, rows } from "../schema/rows.ts"
import { atomically } from "../Transaction.ts"
import { Failed } from "./model.ts"

/** From a time on, and before another, in the notation of {@link rfc3339}; null is no bound. */
export interface Range {
  readonly since: string | null
  readonly until: string
}

export interface Delivered {
  readonly batch: Batch
  /** To the microsecond. */
  readonly deliveredAt: string
}

const within = (sql: SqlClient.SqlClient, column: string, { since, until }: Range) =>
  sql`${sql.literal(column)} >= coalesce(${since}::timestamptz, '-infinity') AND ${sql.literal(column)} < ${until}::timestamptz`

/** What fits into memory beside each other: small batches are compared together, a large one by itself. */
const EVENTS_AT_ONCE = 50_000
const BATCHES_AT_ONCE = 500

/** The next batches by their ids. Those that are delivered meanwhile are beyond the range. */
export const nextDelivered = (
  sql: SqlClient.SqlClient,
  range: Range,
  after: number
): Effect.Effect<ReadonlyArray<Delivered>, SqlError> =>
  sql<{ deliveredAt: string }>`
    SELECT ${batchColumns(sql)}, ${sql.literal(rfc3339("batch.delivered_at"))} AS "deliveredAt"
    FROM (
      SELECT *, sum(event_count) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) - event_count AS events_before
      FROM (
        SELECT *
        FROM outbox.batch
        WHERE id > ${after} AND state = 'delivered' AND ${within(sql, "delivered_at", range)}
        ORDER BY id
        LIMIT ${BATCHES_AT_ONCE}
      ) AS next
    ) AS batch
    WHERE events_before < ${EVENTS_AT_ONCE}
    ORDER BY batch.id
  `.pipe(
    Effect.flatMap((rows) =>
      Effect.forEach(rows, (row) => Effect.map(decodeBatch(row), (batch) => ({ batch, deliveredAt: row.deliveredAt })))
    )
  )

export interface Moment {
  readonly now: string
  readonly completeSince: string | null
}

/** A slot is emptied after new rows have ceased to go to it: what came after that is there. */
export const moment = (sql: SqlClient.SqlClient): Effect.Effect<Moment, SqlError> =>
  sql<Moment>`
    SELECT
      ${sql.literal(rfc3339("clock_timestamp()"))} AS now,
      CASE WHEN count(emptied_at) > 0 THEN ${sql.literal(
        rfc3339("coalesce(max(left_at) FILTER (WHERE emptied_at > left_at), min(opened_at))")
      )} END AS "completeSince"
    FROM outbox.slot
  `.pipe(Effect.map(([row]) => row ?? { now: "", completeSince: null }))

/**
 * How often each was published, as far as the outbox knows, without what ClickHouse refused. What was published again by
 * a relay keeps the time of its publication, and counts once. Reads the whole outbox.
 */
export const countPublished = (
  sql: SqlClient.SqlClient,
  eventIds: ReadonlyArray<EventId>
): Effect.Effect<ReadonlyMap<string, number>, SqlError> =>
  sql<{ id: string; times: number }>`
    SELECT event_id AS id, count(DISTINCT published_at)::integer AS times
    FROM outbox.event
    WHERE event_id = ANY (${eventIds}::uuid[])
      AND NOT EXISTS (
        SELECT
        FROM outbox.batch_failure_event AS failed
        WHERE failed.event_id = event.event_id AND failed.published_at = event.published_at
      )
    GROUP BY event_id
  `.pipe(Effect.map((rows) => new Map(rows.map(({ id, times }) => [id, times] as const))))

/**
 * Makes a delivered batch pending again, so that a relay asks ClickHouse which of its events are missing and sends those.
 * False if it is not as it was seen any more: somebody else requeued it, or its rows are gone.
 *
 * Rows that are read here keep their slot from being emptied until this is committed, and a slot of a pending batch is not
 * emptied. The relay asks ClickHouse itself, so it is harmless that this process may have asked another table.
 */
export const requeue = (
  sql: SqlClient.SqlClient,
  { batch, deliveredAt }: Delivered,
  missing: Arr.NonEmptyReadonlyArray<EventId>,
  actor: string
): Effect.Effect<boolean, SqlError> =>
  sql<{ count: number }>`
    WITH retained AS (
      SELECT count(*) AS count FROM (${sql.literal(rows(batch, "event_id", only(missing)))}) AS events
    ),
    requeued AS (
      SELECT CASE
        WHEN retained.count >= ${missing.length}
          THEN outbox.requeue(${batch.id}, ${deliveredAt}::timestamptz, ${missing.length})
      END AS done
      FROM retained
    ),
    audited AS (
      INSERT INTO outbox.audit (actor, action, before, after)
      SELECT
        ${actor}, 'requeue',
        jsonb_build_object(
          'batch_id', ${batch.id}::bigint, 'state', 'delivered', 'delivered_at', ${deliveredAt}::timestamptz
        ),
        jsonb_build_object(
          'batch_id', ${batch.id}::bigint, 'state', 'pending', 'missing_events', ${missing.length}::integer
        )
      FROM requeued
      WHERE done
    )
    SELECT count(*)::integer AS count FROM requeued WHERE done
  `.pipe(
    atomically(sql, SETTINGS),
    Effect.map(([row]) => row?.count === 1)
  )

const SETTINGS = `
  SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
  SET LOCAL idle_in_transaction_session_timeout = '10s';
  ${PLAN_SETTINGS}`

/** Idle relays look for work when the number of batches moves. Sequences move at once, so only after the commit. */
export const wakeRelays = (sql: SqlClient.SqlClient): Effect.Effect<void, SqlError> =>
  Effect.asVoid(sql`SELECT nextval('outbox.batch_id_seq')`)

const FAILURES_AT_ONCE = 500

export const nextFailed = (
  sql: SqlClient.SqlClient,
  range: Range,
  after: number
): Effect.Effect<ReadonlyArray<Failed>, SqlError> =>
  sql`
    SELECT
      'failed' AS kind,
      id::float8 AS failure_id,
      batch_id::float8 AS batch_id,
      event_count - replayed_count AS events,
      error_class AS class,
      error_code AS code,
      ${sql.literal(rfc3339("last_seen_at"))} AS last_seen_at
    FROM outbox.batch_failure_status
    WHERE id > ${after} AND state = 'open' AND ${within(sql, "last_seen_at", range)}
    ORDER BY id
    LIMIT ${FAILURES_AT_ONCE}
  `.pipe(Effect.flatMap((rows) => Effect.orDie(Schema.decodeUnknown(Schema.Array(Failed))(rows))))
