/** What is in the outbox, for people and programs that ask. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { millis } from "./manifest.ts"
import { Hold, Outstanding } from "./model.ts"

const Count = Schema.NumberFromString

/**
 * @since 0.1.0
 * @category models
 */
export class OutboxStatus extends Schema.Class<OutboxStatus>("OutboxStatus")({
  /** Events committed and not yet delivered. */
  backlog: Count,
  /** How long the oldest of them has waited, in milliseconds; null if there is none. */
  oldestUndeliveredMillis: Schema.NullOr(Schema.Number),
  /** Events not in a batch yet. Part of the backlog. */
  unsealed: Count,
  /** Batches by the states of `outbox.batch_status`, without those that were split. */
  batches: Schema.Struct({
    sealed: Count,
    leased: Count,
    retrying: Count,
    held: Count,
    delivered: Count,
    failed: Count
  }),
  /** Open failures, and how many of their events were not published again yet. */
  failures: Schema.Struct({ open: Count, events: Count }),
  /** That are open. */
  incidents: Count,
  /** Whether all relays are told to deliver nothing. */
  held: Schema.NullOr(Hold),
  lastDeliveredAt: Schema.NullOr(Schema.DateFromNumber),
  /** Of the oldest batch that is not getting through. */
  lastError: Schema.NullOr(
    Schema.Struct({
      batchId: Schema.NumberFromString,
      errorClass: Schema.String,
      code: Schema.NullOr(Schema.Number),
      message: Schema.String,
      attempts: Schema.Number
    })
  )
}) {}

/** Null, or an object with the fields of {@link Hold}. */
const HOLD = `(
  SELECT jsonb_build_object('by', held_by, 'reason', reason, 'since', ${millis("held_at")}) FROM outbox.relay_hold
)`

export const outstanding = (sql: SqlClient.SqlClient): Effect.Effect<Outstanding, SqlError> =>
  // One entry of an index.
  sql`
    SELECT EXISTS (SELECT FROM outbox.batch WHERE state = 'pending') AS batches, ${sql.literal(HOLD)} AS hold
  `.pipe(
    Effect.flatMap((rows) => Effect.orDie(Arr.head(rows))),
    Effect.flatMap((row) => Effect.orDie(Schema.decodeUnknown(Outstanding)(row)))
  )

export const status = (sql: SqlClient.SqlClient): Effect.Effect<OutboxStatus, SqlError> =>
  // One statement, one snapshot: an event is counted in exactly one place.
  sql`
    WITH position AS (
      SELECT
        sealed_snapshot,
        coalesce(window_snapshot, sealed_snapshot) AS upper,
        coalesce(cursor_tx_id, '0') AS cursor_tx_id,
        coalesce(cursor_id, 0) AS cursor_id
      FROM outbox.sealer
    ),
    unsealed AS (
      -- Not in the last window, or in the part of it that has not been cut yet.
      SELECT count(*) AS events, min(published_at) AS oldest
      FROM (
        SELECT events.published_at
        FROM position, outbox.window_late_events(upper, pg_current_snapshot()) AS events
        UNION ALL
        SELECT events.published_at
        FROM position, outbox.window_new_events(upper, pg_current_snapshot()) AS events
        UNION ALL
        SELECT events.published_at
        FROM position, outbox.window_late_events(sealed_snapshot, upper) AS events
        WHERE (events.tx_id, events.id) > (cursor_tx_id, cursor_id)
        UNION ALL
        SELECT events.published_at
        FROM position, outbox.window_new_events(sealed_snapshot, upper) AS events
        WHERE (events.tx_id, events.id) > (cursor_tx_id, cursor_id)
      ) AS events
    ),
    pending AS (
      SELECT coalesce(sum(event_count), 0) AS events, min(first_published_at) AS oldest
      FROM outbox.batch
      WHERE state = 'pending'
    ),
    states AS (
      SELECT state, count(*) AS batches FROM outbox.batch_status GROUP BY state
    )
    SELECT
      (unsealed.events + pending.events)::text AS backlog,
      (extract(epoch FROM clock_timestamp() - least(unsealed.oldest, pending.oldest)) * 1000)::float8
        AS "oldestUndeliveredMillis",
      unsealed.events::text AS unsealed,
      (
        SELECT jsonb_object_agg(name, coalesce(states.batches, 0)::text)
        FROM unnest('{sealed,leased,retrying,held,delivered,failed}'::text[]) AS name
        LEFT JOIN states ON states.state = name
      ) AS batches,
      (
        SELECT jsonb_build_object(
          'open', count(*)::text,
          'events', (
            coalesce(sum(event_count), 0) - coalesce(sum((
              SELECT count(*)
              FROM outbox.batch_failure_event AS event
              WHERE event.failure_id = failure.id AND event.replayed_at IS NOT NULL
            )), 0)
          )::text
        )
        FROM outbox.batch_failure AS failure
        WHERE state = 'open'
      ) AS failures,
      (SELECT count(*)::text FROM outbox.incident WHERE closed_at IS NULL) AS incidents,
      ${sql.literal(HOLD)} AS held,
      (
        SELECT ${sql.literal(millis("max(delivered_at)"))} FROM outbox.batch WHERE state = 'delivered'
      ) AS "lastDeliveredAt",
      (
        SELECT jsonb_build_object(
          'batchId', id::text, 'errorClass', error_class, 'code', error_code,
          'message', error_message, 'attempts', attempts
        )
        FROM outbox.batch
        WHERE state = 'pending' AND error_class IS NOT NULL
        ORDER BY id
        LIMIT 1
      ) AS "lastError"
    FROM unsealed, pending
  `.pipe(
    Effect.flatMap((rows) => Effect.orDie(Arr.head(rows))),
    Effect.flatMap((row) => Effect.orDie(Schema.decodeUnknown(OutboxStatus)(row))),
    Effect.withSpan("OutboxStore.status")
  )
