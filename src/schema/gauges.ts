/** What relays measure of the outbox. No event is counted; the cost grows with undelivered batches. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { WAITING, WAITS_SINCE } from "./batches.ts"
import { rowOf } from "./columns.ts"
import { type NotMigrated, requireOutbox } from "./compatibility.ts"
import { consistently, OPEN_FAILURES, readSealer, type Sealer } from "./counts.ts"
import { afterKey, type Range } from "./events.ts"

const Counts = Schema.Record({ key: Schema.String, value: Schema.Number })

/**
 * What a relay measures of the outbox every few seconds.
 *
 * @since 0.1.0
 * @category models
 */
export class OutboxGauges extends Schema.Class<OutboxGauges>("OutboxGauges")({
  /**
   * Events committed and not yet delivered, by the sequence of their ids. Ids of transactions that are open or were
   * rolled back count too, until the sealer has looked when none was open, or has sealed; events of transactions that
   * were open when the last batch was sealed are missing until they are. Of a batch that was requeued those count that
   * ClickHouse was found to lack.
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

export const gauges = (sql: SqlClient.SqlClient): Effect.Effect<OutboxGauges, NotMigrated | SqlError> =>
  requireOutbox(sql).pipe(
    Effect.zipRight(Effect.flatMap(readSealer(sql), (sealer) => readGauges(sql, sealer))),
    consistently(sql)
  )

/** In the transaction of {@link consistently} that the sealer was read in. */
export const readGauges = (
  sql: SqlClient.SqlClient,
  { cursor, sealed, unsealed }: Sealer
): Effect.Effect<OutboxGauges, SqlError> => {
  // Of each index range the first by key, which is the oldest, or nearly. Joined to the sealer, all would be read.
  const first = (events: Range) => sql`
    SELECT published_at
    FROM ${sql.literal(`outbox.${events}`)}(${sealed}::pg_snapshot, pg_current_snapshot())
    WHERE ${sql.literal(afterKey(events, { fromSnapshot: sealed, key: cursor }))}
    ORDER BY tx_id, id
    LIMIT 1
  `
  const waited = (since: string) =>
    sql.literal(`coalesce(extract(epoch FROM clock_timestamp() - ${since}) * 1000, 0)::float8`)
  return rowOf(OutboxGauges)(sql`
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
    failures AS (${sql.literal(OPEN_FAILURES)})
    SELECT
      (${unsealed}::bigint + undelivered.events)::float8 AS "backlogEvents",
      ${waited("least(unsealed.oldest, undelivered.oldest)")} AS "oldestUndeliveredMillis",
      ${waited("unsealed.oldest")} AS "oldestUnsealedMillis",
      (SELECT coalesce(jsonb_object_agg(state, batches), '{}') FROM states) AS "undeliveredBatches",
      failures.failures AS "openFailures",
      failures.events AS "openFailureEvents",
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
  `)
}
