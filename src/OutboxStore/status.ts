/** What is in the outbox, for people and programs that ask. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { millis } from "./manifest.ts"

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
  /** Batches by the states of `outbox.batch_status`. */
  batches: Schema.Struct({ sealed: Count, leased: Count, retrying: Count, held: Count, delivered: Count }),
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
        FROM unnest('{sealed,leased,retrying,held,delivered}'::text[]) AS name
        LEFT JOIN states ON states.state = name
      ) AS batches,
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
