/** What relays measure of the outbox every few seconds. No event is counted; the cost grows with undelivered batches. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { type NotMigrated, requireOutbox } from "./compatibility.ts"
import { from, type Range } from "./keys.ts"
import { WAITING, WAITS_SINCE } from "./manifest.ts"
import { consistently, readSealer, type Sealer } from "./sealer.ts"
import { Observation } from "./status.ts"

export const observe = (sql: SqlClient.SqlClient): Effect.Effect<Observation, NotMigrated | SqlError> =>
  Effect.gen(function* () {
    yield* requireOutbox(sql)
    const row = yield* readOutbox(sql, yield* readSealer(sql))
    return yield* Effect.orDie(Schema.decodeUnknown(Observation)(row))
  }).pipe(consistently(sql))

/** The row of an {@link Observation}. */
export const readOutbox = (sql: SqlClient.SqlClient, { cursor, sealed, unsealed }: Sealer) => {
  // Of each index range the first by key, which is the oldest, or nearly. Joined to the sealer, all would be read.
  const first = (events: Range) => sql`
    SELECT published_at
    FROM ${sql.literal(`outbox.${events}`)}(${sealed}::pg_snapshot, pg_current_snapshot())
    WHERE ${sql.literal(from(events, sealed, ">", cursor))}
    ORDER BY tx_id, id
    LIMIT 1
  `
  const waited = (since: string) =>
    sql.literal(`coalesce(extract(epoch FROM clock_timestamp() - ${since}) * 1000, 0)::float8`)
  return sql`
    WITH unsealed AS (
      SELECT min(published_at) AS oldest
      FROM ((${first("window_late_events")}) UNION ALL (${first("window_new_events")})) AS first
    ),
    states AS (
      SELECT
        outbox.batch_state(batch) AS state,
        count(*) AS batches,
        sum(${sql.literal(WAITING)}) AS events,
        min(${sql.literal(WAITS_SINCE)}) AS oldest
      FROM outbox.batch
      WHERE state = 'pending'
      GROUP BY 1
    ),
    undelivered AS (
      SELECT coalesce(sum(events), 0) AS events, min(oldest) AS oldest FROM states
    ),
    failures AS (
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
    )
    SELECT
      (${unsealed}::bigint + undelivered.events)::float8 AS "backlogEvents",
      ${waited("least(unsealed.oldest, undelivered.oldest)")} AS "oldestUndeliveredMillis",
      ${waited("unsealed.oldest")} AS "oldestUnsealedMillis",
      (SELECT coalesce(jsonb_object_agg(state, batches), '{}') FROM states) AS "undeliveredBatches",
      failures.open AS "openFailures",
      (failures.events - failures.replayed)::float8 AS "openFailureEvents",
      (
        SELECT coalesce(jsonb_object_agg(error_class, 1), '{}') FROM outbox.incident WHERE closed_at IS NULL
      ) AS "openIncidents",
      EXISTS (SELECT FROM outbox.relay_pause) AS "relayPaused",
      (
        SELECT jsonb_object_agg(substring(inhrelid::regclass::text FROM '\\d+$'), pg_total_relation_size(inhrelid))
        FROM pg_inherits
        WHERE inhparent = 'outbox.event'::regclass
      ) AS "slotBytes"
    FROM unsealed, undelivered, failures
  `.pipe(Effect.flatMap((rows) => Effect.orDie(Arr.head(rows))))
}
