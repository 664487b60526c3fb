/**
 * Incidents: times in which batches did not get through although nothing was wrong with their events.
 *
 * | state | becomes | when |
 * | --- | --- | --- |
 * | none of a class | open | a batch has failed with that class for longer than `incidentAfter` |
 * | open | open, with one more batch or attempt | a further batch fails for as long, or one of its own fails again |
 * | | closed | none of its batches is undelivered |
 * | closed | deleted | the retention is over; see `Retention.ts` |
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { Fragment } from "@effect/sql/Statement"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { mayQuoteEvents } from "../SinkError.ts"
import { interval, millis, rowsOf } from "../schema/columns.ts"

const Opened = Schema.Struct({
  id: Schema.Int,
  errorClass: Schema.String,
  message: Schema.String,
  beganAt: Schema.DateFromNumber
})

const Closed = Schema.Struct({
  id: Schema.Int,
  errorClass: Schema.String,
  attempts: Schema.Int,
  beganAt: Schema.DateFromNumber
})

export const make = (sql: SqlClient.SqlClient) => {
  /** Since when a batch has been failing. */
  const failingSince = sql.literal("greatest(coalesce(first_error_at, clock_timestamp()), first_attempt_at)")

  /** What the network is to blame for is one incident, whether or not it swallowed the answers. */
  const classOf = (errorClass: Fragment): Fragment =>
    sql`CASE ${errorClass} WHEN 'in-doubt' THEN 'transient' ELSE ${errorClass} END`

  /**
   * From `failed`, which has a row for each class, to `incident`, which has its incident. The unique index makes those
   * that fail at the same time join the same one.
   */
  const join = sql`
    joined AS (
      UPDATE outbox.incident SET
        error_code = failed.error_code,
        error_message = failed.error_message,
        began_at = least(began_at, since),
        last_seen_at = clock_timestamp(),
        attempts = incident.attempts + failed.attempts
      FROM failed
      WHERE incident.error_class = failed.error_class AND closed_at IS NULL
      RETURNING id, incident.error_class, began_at, false AS is_new
    ),
    opened AS (
      -- Only if there is none, as each try would take a number.
      INSERT INTO outbox.incident AS open (error_class, error_code, error_message, began_at, attempts)
      SELECT error_class, error_code, error_message, since, attempts
      FROM failed
      WHERE NOT EXISTS (SELECT FROM joined WHERE joined.error_class = failed.error_class)
      ON CONFLICT (error_class) WHERE closed_at IS NULL DO UPDATE SET
        error_code = excluded.error_code,
        error_message = excluded.error_message,
        began_at = least(open.began_at, excluded.began_at),
        last_seen_at = clock_timestamp(),
        attempts = open.attempts + excluded.attempts
      RETURNING id, error_class, began_at, xmax = 0 AS is_new
    ),
    incident AS (
      SELECT * FROM joined UNION ALL SELECT * FROM opened
    )
  `

  /**
   * Finds batches that have been failing for longer than `incidentAfter` and that nobody has released since: one that
   * kills each worker, or whose workers cannot reach Postgres. They are locked before the incidents, as by those who
   * release a batch; what these have locked they deal with themselves.
   */
  const open = Effect.fn("OutboxStore.openIncidents")((incidentAfter: Duration.Duration) =>
    sql`
      WITH failing AS (
        SELECT id, ${classOf(sql`error_class`)} AS error_class, error_code, error_message, attempts,
          ${failingSince} AS since
        FROM outbox.batch
        WHERE state = 'pending'
          AND error_class IS NOT NULL
          AND incident_id IS NULL
          AND clock_timestamp() - ${failingSince} >= ${interval(sql, incidentAfter)}
        FOR UPDATE SKIP LOCKED
      ),
      failed AS (
        SELECT
          error_class,
          (array_agg(error_code ORDER BY id DESC))[1] AS error_code,
          (array_agg(error_message ORDER BY id DESC))[1] AS error_message,
          min(since) AS since,
          sum(attempts)::integer AS attempts
        FROM failing
        GROUP BY error_class
      ),
      ${join},
      assigned AS (
        UPDATE outbox.batch SET incident_id = incident.id
        FROM failing JOIN incident ON incident.error_class = failing.error_class
        WHERE batch.id = failing.id
      )
      SELECT
        incident.id::float8 AS id,
        error_class AS "errorClass",
        error_message AS message,
        ${sql.literal(millis("began_at"))} AS "beganAt"
      FROM incident
      JOIN failed USING (error_class)
      WHERE is_new
    `.pipe(rowsOf(Opened), Effect.flatMap(Effect.forEach(logOpened, { discard: true })))
  )

  /**
   * Closes incidents of whose batches none is undelivered: each got through, or was split or became a failure, as its
   * data turned out to be bad. To be run after what a batch came to is committed: of two workers that finish at once
   * each would see the other's batch as pending until then. What a crash in between leaves open, and what cannot be
   * closed because Postgres fails, the next run closes.
   *
   * A batch that joins while this waits for the incident's row is not in this snapshot, but it counts an attempt: the
   * condition is checked again with the newest version of the row that is updated, and the snapshot's of the other.
   */
  const close: Effect.Effect<void> = sql`
    UPDATE outbox.incident SET closed_at = clock_timestamp()
    WHERE closed_at IS NULL
      AND NOT EXISTS (SELECT FROM outbox.batch WHERE batch.incident_id = incident.id AND batch.state = 'pending')
      AND attempts = (SELECT seen.attempts FROM outbox.incident AS seen WHERE seen.id = incident.id)
    RETURNING id::float8 AS id, error_class AS "errorClass", attempts, ${sql.literal(millis("began_at"))} AS "beganAt"
  `.pipe(
    rowsOf(Closed),
    Effect.flatMap(Effect.forEach(logClosed, { discard: true })),
    Effect.catchTag("SqlError", (error) => Effect.logDebug("Incidents could not be closed", error)),
    Effect.withSpan("OutboxStore.closeIncidents")
  )

  return { failingSince, classOf, join, logOpened, open, close }
}

const logOpened = ({ beganAt, errorClass, id, message }: typeof Opened.Type): Effect.Effect<void> =>
  Effect.logWarning(
    `Incident ${id}: batches have not got through since ${beganAt.toISOString()}. ${
      mayQuoteEvents(errorClass) ? '"clickhouse-outbox incidents list" says why' : message
    }`
  ).pipe(Effect.annotateLogs({ "incident.id": id, "error.class": errorClass }))

const logClosed = ({ attempts, beganAt, errorClass, id }: typeof Closed.Type): Effect.Effect<void> =>
  Effect.logInfo(
    `Incident ${id} is over: none of its batches is blocked or retrying any more. It began at ${beganAt.toISOString()} and took ${attempts} failed ${attempts === 1 ? "attempt" : "attempts"}`
  ).pipe(Effect.annotateLogs({ "incident.id": id, "error.class": errorClass }))
