/** Batches that do not get through although nothing is wrong with their events. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Lease } from "../Batch.ts"
import type { SinkError } from "../SinkError.ts"
import { failedBecause, held, interval, orLost } from "./held.ts"
import { millis } from "./manifest.ts"
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
    // The row is locked before the incident is joined, so only who holds the lease joins one; the unique index makes
    // those that fail at the same time join the same. Where an event is at fault it is isolated, and is no incident.
    // A batch that was cut out of another has its error from there, and fails itself since it was first tried.
    sql<Released>`
      WITH failing AS (
        SELECT
          id,
          incident_id,
          greatest(coalesce(first_error_at, clock_timestamp()), first_attempt_at) AS since
        FROM outbox.batch
        WHERE ${held(sql, lease)}
        FOR UPDATE
      ),
      failed AS (
        SELECT
          ${error.errorClass}::text AS error_class,
          ${error.code ?? null}::integer AS error_code,
          ${error.reason.replaceAll("\0", "")}::text AS error_message,
          since
        FROM failing
        WHERE ${error.errorClass !== "data"} AND clock_timestamp() - since >= ${interval(sql, incidentAfter)}
      ),
      joined AS (
        UPDATE outbox.incident SET
          error_code = failed.error_code,
          error_message = failed.error_message,
          began_at = least(began_at, since),
          last_seen_at = clock_timestamp(),
          attempts = attempts + 1
        FROM failed
        WHERE incident.error_class = failed.error_class AND closed_at IS NULL
        RETURNING id, attempts, began_at
      ),
      opened AS (
        -- Only if there is none, as each try would take a number.
        INSERT INTO outbox.incident AS open (error_class, error_code, error_message, began_at)
        SELECT error_class, error_code, error_message, since
        FROM failed
        WHERE NOT EXISTS (SELECT FROM joined)
        ON CONFLICT (error_class) WHERE closed_at IS NULL DO UPDATE SET
          error_code = excluded.error_code,
          error_message = excluded.error_message,
          began_at = least(open.began_at, excluded.began_at),
          last_seen_at = clock_timestamp(),
          attempts = open.attempts + 1
        RETURNING id, attempts, began_at
      )
      UPDATE outbox.batch SET
        available_at = clock_timestamp() + ${interval(sql, retryAfter)},
        lease_id = NULL,
        settled_attempts = settled_attempts + ${error.settled ? 1 : 0},
        ${failedBecause(sql, error)},
        incident_id = coalesce(incident.id, batch.incident_id)
      FROM failing
      LEFT JOIN (SELECT * FROM joined UNION ALL SELECT * FROM opened) AS incident ON true
      WHERE batch.id = failing.id
      RETURNING
        coalesce(failing.incident_id <> incident.id, false) AS "leftIncident",
        incident.id::text AS "incidentId",
        coalesce(incident.attempts = 1, false) AS opened,
        ${sql.literal(millis("coalesce(incident.began_at, failing.since)"))} AS "beganAt"
    `.pipe(
      Effect.flatMap(orLost(lease)),
      Effect.tap(({ leftIncident }) => Effect.when(closeIncidents(sql), () => leftIncident)),
      Effect.tap((released) => Effect.when(logOpened(released, error), () => released.opened)),
      Effect.asVoid,
      Effect.withSpan("OutboxStore.release")
    )

const logOpened = ({ beganAt, incidentId }: Released, error: SinkError) =>
  Effect.logWarning(
    `Incident ${incidentId}: batches have not got through since ${new Date(beganAt).toISOString()}. ${error.message}`
  ).pipe(Effect.annotateLogs({ "incident.id": incidentId, "error.class": error.errorClass }))

interface Closed {
  readonly id: string
  readonly errorClass: string
  readonly attempts: number
  readonly beganAt: number
}

/**
 * Closes incidents whose batches have all got through. To be run after what a batch came to is committed: of two
 * workers that finish at once each would see the other's batch as pending until then. What a crash in between leaves
 * open, and what cannot be closed because Postgres fails, the next run closes.
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
    `Incident ${id} is over: its batches have got through. It began at ${new Date(beganAt).toISOString()} and took ${attempts} failed ${attempts === 1 ? "attempt" : "attempts"}`
  ).pipe(Effect.annotateLogs({ "incident.id": id, "error.class": errorClass }))
