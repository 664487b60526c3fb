/** What the manifest says of each batch. */
import * as SqlClient from "@effect/sql/SqlClient"
import * as Effect from "effect/Effect"

export interface ManifestRow {
  readonly id: string
  readonly parent_id: string | null
  readonly state: string
  readonly event_count: number
  readonly byte_count: string
  readonly suspect: boolean
  readonly attempts: number
  readonly error_class: string | null
  readonly error_code: number | null
  readonly error_message: string | null
  readonly incident_id: string | null
  /** How many of its events were sent again. */
  readonly repaired: number | null
}

/** Oldest first. */
export const batches = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql<ManifestRow>`
    SELECT
      id, batch.parent_id, batch_status.state, batch.event_count, batch.byte_count, suspect, attempts,
      batch_status.error_class, batch_status.error_code, batch_status.error_message, batch.incident_id,
      cardinality(repair_event_ids) AS repaired
    FROM outbox.batch_status JOIN outbox.batch USING (id, attempts)
    ORDER BY id
  `
)

export const isDelivered = ({ state }: ManifestRow): boolean => state === "delivered"
