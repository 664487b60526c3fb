/** What is in the outbox, for people and programs that ask. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { BatchId } from "../Batch.ts"
import { ErrorClass } from "../SinkError.ts"
import { column, rfc3339 } from "./columns.ts"
import { from, type Key, type Range } from "./keys.ts"
import { WAITING, WAITS_SINCE } from "./manifest.ts"
import { consistently, readSealer, type Sealer } from "./sealer.ts"

/**
 * Somebody has told all relays to take no batch.
 *
 * @since 0.1.0
 * @category models
 */
export class RelayPause extends Schema.Class<RelayPause>("RelayPause")({
  pausedBy: column("paused_by", Schema.String),
  reason: Schema.String,
  pausedAt: column("paused_at", Schema.Date)
}) {}

/**
 * What there is to wait for.
 *
 * @since 0.1.0
 * @category models
 */
export class Outstanding extends Schema.Class<Outstanding>("Outstanding")({
  /** Whether a batch is sealed and undelivered. */
  batches: Schema.Boolean,
  relayPause: Schema.NullOr(RelayPause)
}) {}

const Counts = Schema.Record({ key: Schema.String, value: Schema.Number })

/**
 * What relays measure of the outbox.
 *
 * @since 0.1.0
 * @category models
 */
export class Observation extends Schema.Class<Observation>("Observation")({
  /**
   * Events committed and not yet delivered, by the sequence of their ids. Ids of transactions that are open or were rolled
   * back count too, until the sealer has looked when none was open, or has sealed; events of transactions that were open
   * when the last batch was sealed are missing until they are. Of a batch that was requeued those
   * count that ClickHouse was found to lack.
   */
  backlogEvents: Schema.Number,
  /** How long the oldest of them has waited, since it was published or requeued; 0 if there is none. */
  oldestUndeliveredMillis: Schema.Number,
  /** Of those that are not in a batch. */
  oldestUnsealedMillis: Schema.Number,
  /** By their states in `outbox.batch_status`; a state that has none is missing. */
  undeliveredBatches: Counts,
  openFailures: Schema.Int,
  /** Those that were not replayed yet. */
  openFailureEvents: Schema.Int,
  /** By class of error; a class that has none is missing. */
  openIncidents: Counts,
  relayPaused: Schema.Boolean,
  /** Bytes on disk, by slot. */
  slotBytes: Counts
}) {}

/**
 * How far behind the outbox is, and why. Its JSON is what the command line and the operator API print.
 *
 * @since 0.1.0
 * @category models
 */
export class OutboxStatus extends Schema.Class<OutboxStatus>("OutboxStatus")({
  /** Events committed and not yet delivered, and those that a batch was requeued for. */
  backlog: Schema.Int,
  /**
   * How long the oldest of them has waited, in milliseconds; null if there is none. Those of a batch that was requeued
   * wait since then.
   */
  oldestUndeliveredMillis: column("oldest_undelivered_ms", Schema.NullOr(Schema.Number)),
  /** Events not in a batch yet. Part of the backlog. */
  unsealed: Schema.Int,
  /** Batches by the states of `outbox.batch_status`, without those that were split. */
  batches: Schema.Struct({
    sealed: Schema.Int,
    leased: Schema.Int,
    retrying: Schema.Int,
    blocked: Schema.Int,
    delivered: Schema.Int,
    failed: Schema.Int
  }),
  /** Open failures, and how many of their events were not published again yet. */
  openFailures: column("open_failures", Schema.Struct({ failures: Schema.Int, events: Schema.Int })),
  openIncidents: column("open_incidents", Schema.Int),
  /** Why no relay takes a batch, if somebody said so. */
  relayPause: column("relay_pause", Schema.NullOr(RelayPause)),
  /** Whether or not that batch was requeued since. */
  lastDeliveredAt: column("last_delivered_at", Schema.NullOr(Schema.Date)),
  /** Of the oldest batch that is not getting through; of those that were requeued only if there is no other. */
  lastError: column(
    "last_error",
    Schema.NullOr(
      Schema.Struct({
        batchId: column("batch_id", Schema.typeSchema(BatchId)),
        errorClass: column("class", ErrorClass),
        code: Schema.NullOr(Schema.Int),
        message: Schema.String,
        attempts: Schema.Int
      })
    )
  )
}) {}

/** Null, or a {@link RelayPause}. */
const RELAY_PAUSE = `(
  SELECT jsonb_build_object('paused_by', paused_by, 'reason', reason, 'paused_at', ${rfc3339("paused_at")})
  FROM outbox.relay_pause
)`

export const outstanding = (sql: SqlClient.SqlClient): Effect.Effect<Outstanding, SqlError> =>
  // One entry of an index.
  sql`
    SELECT EXISTS (SELECT FROM outbox.batch WHERE state = 'pending') AS batches, ${sql.literal(RELAY_PAUSE)} AS "relayPause"
  `.pipe(
    Effect.flatMap((rows) => Effect.orDie(Arr.head(rows))),
    Effect.flatMap((row) => Effect.orDie(Schema.decodeUnknown(Outstanding)(row)))
  )

export const status = (sql: SqlClient.SqlClient): Effect.Effect<OutboxStatus, SqlError> =>
  // One snapshot: an event is counted in exactly one place.
  readSealer(sql).pipe(
    Effect.flatMap((sealer) => readStatus(sql, sealer)),
    consistently(sql),
    Effect.flatMap((rows) => Effect.orDie(Arr.head(rows))),
    Effect.flatMap((row) => Effect.orDie(Schema.decodeUnknown(OutboxStatus)(row))),
    Effect.withSpan("OutboxStore.status")
  )

const readStatus = (sql: SqlClient.SqlClient, { cursor, sealed, window }: Sealer) => {
  const range = (events: Range, since: string, until: string | null, cursor: Key | null) => sql`
    SELECT published_at
    FROM ${sql.literal(`outbox.${events}`)}(
      ${since}::pg_snapshot, coalesce(${until}::pg_snapshot, pg_current_snapshot())
    )
    WHERE ${sql.literal(from(events, since, ">", cursor))}
  `
  const last = window ?? sealed
  return sql`
    WITH unsealed AS (
      -- Not in the last window, or in the part of it that has not been cut yet.
      SELECT count(*) AS events, min(published_at) AS oldest
      FROM (
        ${range("window_late_events", last, null, null)}
        UNION ALL
        ${range("window_new_events", last, null, null)}
        UNION ALL
        ${range("window_late_events", sealed, last, cursor)}
        UNION ALL
        ${range("window_new_events", sealed, last, cursor)}
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
      (
        SELECT jsonb_build_object(
          'failures', count(*),
          'events', coalesce(sum(event_count), 0) - coalesce(sum((
            SELECT count(*)
            FROM outbox.batch_failure_event AS event
            WHERE event.failure_id = failure.id AND event.replayed_at IS NOT NULL
          )), 0)
        )
        FROM outbox.batch_failure AS failure
        WHERE state = 'open'
      ) AS open_failures,
      (SELECT count(*)::integer FROM outbox.incident WHERE closed_at IS NULL) AS open_incidents,
      ${sql.literal(RELAY_PAUSE)} AS relay_pause,
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
