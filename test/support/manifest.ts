/** What the manifest says of each batch. */
import * as SqlClient from "@effect/sql/SqlClient"
import * as Effect from "effect/Effect"

export interface ManifestRow {
  readonly state: string
  readonly attempts: number
  readonly error_class: string | null
  readonly error_code: number | null
  readonly error_message: string | null
  /** How many of its events were sent again. */
  readonly repaired: number | null
}

/** Oldest first. */
export const batches = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql<ManifestRow>`
    SELECT
      batch_status.state, attempts, batch_status.error_class, batch_status.error_code, batch_status.error_message,
      cardinality(repair_event_ids) AS repaired
    FROM outbox.batch_status JOIN outbox.batch USING (id, attempts)
    ORDER BY id
  `
)

export const isDelivered = ({ state }: ManifestRow): boolean => state === "delivered"
