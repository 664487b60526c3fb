/** Batches that do not get through although nothing is wrong with their events. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import type { Fragment } from "@effect/sql/Statement"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Lease } from "../Batch.ts"
import { mayQuoteEvents, type SinkError } from "../SinkError.ts"
import { millis } from "../schema/manifest.ts"
import { failedBecause, interval, isOwner, orLost } from "./held.ts"
import type { LeaseLost } from "./model.ts"

export interface Release {
  readonly error: SinkError
  readonly retryAfter: Duration.Duration
  /** A batch that has been failing for longer is part of an incident. */
  readonly incidentAfter: Duration.Duration
}

interface Released {
  readonly leftIncident: boolean
  readonly incidentId: string | null
  readonly opened: boolean
  readonly beganAt: number
}

export const release =
  (sql: SqlClient.SqlClient) =>
  (lease: Lease, { error, incidentAfter, retryAfter }: Release): Effect.Effect<void, LeaseLost | SqlError> =>
    // The row is locked before the incident is joined, so only who holds the lease joins one. A batch that was cut out of
    // another has its error from there, and fails itself since it was first tried.
    sql<Released>`
      WITH failing AS (
        SELECT id, incident_id, attempts, ${since(sql)} AS since
        FROM outbox.batch
        WHERE ${isOwner(sql, lease)}
        FOR UPDATE
      ),
      failed AS (
        SELECT
          ${incidentClass(sql, sql`${error.errorClass}::text`)} AS error_class,
          ${error.code ?? null}::integer AS error_code,
          ${error.reason.replaceAll("\0", "")}::text AS error_message,
          since,
          CASE WHEN incident_id IS NULL THEN attempts ELSE 1 END AS attempts
        FROM failing
        WHERE clock_timestamp() - since >= ${interval(sql, incidentAfter)}
      ),
      ${joinIncidents(sql)}
      UPDATE outbox.batch SET
        available_at = clock_timestamp() + ${interval(sql, retryAfter)},
        lease_id = NULL,
        settled_attempts = settled_attempts + ${error.settled ? 1 : 0},
        ${failedBecause(sql, error)},
        incident_id = coalesce(incident.id, batch.incident_id)
      FROM failing
      LEFT JOIN incident ON true
      WHERE batch.id = failing.id
      RETURNING
        coalesce(failing.incident_id <> incident.id, false) AS "leftIncident",
        incident.id::text AS "incidentId",
        coalesce(incident.is_new, false) AS opened,
        ${sql.literal(millis("coalesce(incident.began_at, failing.since)"))} AS "beganAt"
    `.pipe(
      Effect.flatMap(orLost(lease)),
      Effect.tap(({ leftIncident }) => Effect.when(closeIncidents(sql), () => leftIncident)),
      Effect.tap((released) =>
        Effect.when(
          logOpened({ ...released, errorClass: error.errorClass, message: error.message }),
          () => released.opened
        )
      ),
      Effect.asVoid,
      Effect.withSpan("OutboxStore.release")
    )

/** Since when a batch has been failing. */
const since = (sql: SqlClient.SqlClient) =>
  sql.literal("greatest(coalesce(first_error_at, clock_timestamp()), first_attempt_at)")

/** What the network is to blame for is one incident, whether or not it swallowed the answers. */
const incidentClass = (sql: SqlClient.SqlClient, errorClass: Fragment) =>
  sql`CASE ${errorClass} WHEN 'in-doubt' THEN 'transient' ELSE ${errorClass} END`

/**
 * From `failed`, which has a row for each class, to `incident`, which has its incident. The unique index makes those
 * that fail at the same time join the same one.
 */
const joinIncidents = (sql: SqlClient.SqlClient) => sql`
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
 * kills each worker, or whose workers cannot reach Postgres.
 */
export const openIncidents = (
  sql: SqlClient.SqlClient,
  incidentAfter: Duration.Duration
): Effect.Effect<void, SqlError> =>
  // Locked before the incidents, as by those who release a batch; what they have locked they deal with themselves.
  sql<Opened>`
    WITH failing AS (
      SELECT id, ${incidentClass(sql, sql`error_class`)} AS error_class, error_code, error_message, attempts,
        ${since(sql)} AS since
      FROM outbox.batch
      WHERE state = 'pending'
        AND error_class IS NOT NULL
        AND incident_id IS NULL
        AND clock_timestamp() - ${since(sql)} >= ${interval(sql, incidentAfter)}
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
    ${joinIncidents(sql)},
    assigned AS (
      UPDATE outbox.batch SET incident_id = incident.id
      FROM failing JOIN incident ON incident.error_class = failing.error_class
      WHERE batch.id = failing.id
    )
    SELECT
      incident.id::text AS "incidentId",
      error_class AS "errorClass",
      error_message AS message,
      ${sql.literal(millis("began_at"))} AS "beganAt"
    FROM incident
    JOIN failed USING (error_class)
    WHERE is_new
  `.pipe(Effect.flatMap(Effect.forEach(logOpened, { discard: true })), Effect.withSpan("OutboxStore.openIncidents"))

interface Opened {
  readonly incidentId: string | null
  readonly errorClass: string
  readonly message: string
  readonly beganAt: number
}

const logOpened = ({ beganAt, errorClass, incidentId, message }: Opened) =>
  Effect.logWarning(
    `Incident ${incidentId}: batches have not got through since ${new Date(beganAt).toISOString()}. ${
      mayQuoteEvents(errorClass) ? '"clickhouse-outbox incidents list" says why' : message
    }`
  ).pipe(Effect.annotateLogs({ "incident.id": incidentId, "error.class": errorClass }))

interface Closed {
  readonly id: string
  readonly errorClass: string
  readonly attempts: number
  readonly beganAt: number
}

/**
 * Closes incidents of whose batches none is undelivered: each got through, or was cut up or condemned, as its data turned
 * out to be bad. To be run after what a batch came to is committed: of two workers that finish at once each would see the
 * other's batch as pending until then. What a crash in between leaves open, and what cannot be closed because Postgres
 * fails, the next run closes.
 */
export const closeIncidents = (sql: SqlClient.SqlClient): Effect.Effect<void> =>
  // A batch that joins while this waits for the incident's row is not in this snapshot, but it counts an attempt: the
  // condition is checked again with the newest version of the row that is updated, and the snapshot's of the other.
  sql<Closed>`
    UPDATE outbox.incident SET closed_at = clock_timestamp()
    WHERE closed_at IS NULL
      AND NOT EXISTS (SELECT FROM outbox.batch WHERE batch.incident_id = incident.id AND batch.state = 'pending')
      AND attempts = (SELECT seen.attempts FROM outbox.incident AS seen WHERE seen.id = incident.id)
    RETURNING id::text, error_class AS "errorClass", attempts, ${sql.literal(millis("began_at"))} AS "beganAt"
  `.pipe(
    Effect.flatMap(Effect.forEach(logClosed)),
    Effect.catchAll((error) => Effect.logDebug("Incidents could not be closed", error)),
    Effect.withSpan("OutboxStore.closeIncidents")
  )

const logClosed = ({ attempts, beganAt, errorClass, id }: Closed) =>
  Effect.logInfo(
    `Incident ${id} is over: none of its batches is held up any more. It began at ${new Date(beganAt).toISOString()} and took ${attempts} failed ${attempts === 1 ? "attempt" : "attempts"}`
  ).pipe(Effect.annotateLogs({ "incident.id": id, "error.class": errorClass }))
