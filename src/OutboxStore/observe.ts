/** What relays measure of the outbox every few seconds. Costs the same however many events wait: none is counted. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { type NotMigrated, requireOutbox } from "../NotMigrated.ts"
import { atomically } from "../Transaction.ts"
import { Observation } from "./model.ts"
import { PLAN_SETTINGS } from "./read.ts"

/** A question that hangs would not be asked again. */
const SETTINGS = `
  SET TRANSACTION ISOLATION LEVEL READ COMMITTED READ ONLY;
  SET LOCAL statement_timeout = '5s';
  ${PLAN_SETTINGS}`

export const observe = (sql: SqlClient.SqlClient): Effect.Effect<Observation, NotMigrated | SqlError> =>
  Effect.zipRight(
    requireOutbox(sql),
    // One statement, one snapshot. The sequence may be ahead of it: what was published meanwhile counts already.
    sql`
      WITH sealer AS (
        SELECT
          sealed_snapshot,
          coalesce(cursor_tx_id, '0') AS cursor_tx_id,
          coalesce(cursor_id, 0) AS cursor_id,
          greatest(CASE WHEN is_called THEN last_value ELSE 0 END - event_position, 0) AS unsealed
        FROM outbox.sealer, outbox.event_id_seq
      ),
      unsealed AS (
        -- The first by key of each index range: the oldest, or nearly.
        SELECT min(published_at) AS oldest
        FROM (
          (
            SELECT events.published_at
            FROM sealer, outbox.window_late_events(sealed_snapshot, pg_current_snapshot()) AS events
            WHERE (tx_id, id) > (cursor_tx_id, cursor_id)
            ORDER BY tx_id, id
            LIMIT 1
          )
          UNION ALL
          (
            SELECT events.published_at
            FROM sealer, outbox.window_new_events(sealed_snapshot, pg_current_snapshot()) AS events
            WHERE (tx_id, id) > (cursor_tx_id, cursor_id)
            ORDER BY tx_id, id
            LIMIT 1
          )
        ) AS first
      ),
      undelivered AS (
        SELECT coalesce(sum(event_count), 0) AS events, min(first_published_at) AS oldest
        FROM outbox.batch
        WHERE state = 'pending'
      ),
      states AS (
        SELECT state, count(*) AS batches
        FROM outbox.batch_status
        WHERE id IN (SELECT id FROM outbox.batch WHERE state = 'pending')
        GROUP BY state
      )
      SELECT
        (sealer.unsealed + undelivered.events)::float8 AS "backlogEvents",
        coalesce(
          extract(epoch FROM clock_timestamp() - least(unsealed.oldest, undelivered.oldest)) * 1000, 0
        )::float8 AS "oldestUndeliveredMillis",
        (SELECT coalesce(jsonb_object_agg(state, batches), '{}') FROM states) AS "undeliveredBatches",
        failures.open AS "openFailures",
        (failures.events - failures.replayed)::float8 AS "openFailureEvents",
        (
          SELECT coalesce(jsonb_object_agg(error_class, 1), '{}') FROM outbox.incident WHERE closed_at IS NULL
        ) AS "openIncidents",
        EXISTS (SELECT FROM outbox.relay_hold) AS "relayHeld",
        (
          SELECT jsonb_object_agg(substring(inhrelid::regclass::text FROM '\\d+$'), pg_total_relation_size(inhrelid))
          FROM pg_inherits
          WHERE inhparent = 'outbox.event'::regclass
        ) AS "slotBytes"
      FROM sealer, unsealed, undelivered, (
        SELECT
          count(*)::integer AS open,
          coalesce(sum(event_count), 0) AS events,
          coalesce(sum((
            SELECT count(*)
            FROM outbox.batch_failure_event AS event
            WHERE event.failure_id = failure.id AND event.replayed_at IS NOT NULL
          )), 0) AS replayed
        FROM outbox.batch_failure AS failure
        WHERE state = 'open'
      ) AS failures
    `.pipe(
      Effect.flatMap((rows) => Effect.orDie(Arr.head(rows))),
      Effect.flatMap((row) => Effect.orDie(Schema.decodeUnknown(Observation)(row)))
    )
  ).pipe(atomically(sql, SETTINGS))
