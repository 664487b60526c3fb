/** Where an event is now. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { EventId } from "../Event.ts"
import { rfc3339 } from "../schema/columns.ts"
import { EventNotFound, Place, Whereabouts } from "../schema/deliveries.ts"

/**
 * Reads the whole outbox, which has no index on event ids: publishers would pay for one with every event. A failure's
 * events have one, and outlive their rows in the outbox.
 */
export const where =
  (sql: SqlClient.SqlClient) =>
  (eventId: EventId): Effect.Effect<Whereabouts, EventNotFound | SqlError> =>
    // One statement, one snapshot: an event that is replayed meanwhile is seen before it or after it.
    sql`
      WITH published AS MATERIALIZED (
        SELECT * FROM outbox.event_status WHERE event_id = ${eventId}::uuid
      ),
      failed AS (
        SELECT * FROM outbox.failed_event WHERE event_id = ${eventId}::uuid
      )
      SELECT
        CASE
          WHEN failed.failure_id IS NOT NULL OR published.status = 'FAILED' THEN 'failed'
          WHEN published.status = 'COMPLETED' THEN 'delivered'
          ELSE 'pending'
        END AS state,
        batch_id::float8 AS batch_id,
        batch.state AS batch_state,
        failed.failure_id::float8 AS failure_id,
        failed.state AS failure_state,
        coalesce(published.event_type, failed.event_type) AS event_type,
        ${sql.literal(rfc3339("coalesce(published.event_date_time, failed.event_date_time)"))} AS event_date_time,
        ${sql.literal(rfc3339("published_at"))} AS published_at,
        ${sql.literal(rfc3339("published.delivered_at"))} AS delivered_at,
        ${sql.literal(rfc3339("failed.replayed_at"))} AS replayed_at
      FROM published
      FULL JOIN failed USING (batch_id, published_at)
      LEFT JOIN outbox.batch_status AS batch ON batch.id = batch_id
      ORDER BY published_at DESC
    `.pipe(
      Effect.flatMap((rows) => Effect.orDie(Schema.decodeUnknown(Schema.Array(Place))(rows))),
      Effect.filterOrFail(Arr.isNonEmptyReadonlyArray, () => new EventNotFound({ eventId })),
      Effect.map((places) => new Whereabouts({ eventId, state: stateOf(Arr.headNonEmpty(places)), places })),
      Effect.withSpan("Operations.where", { attributes: { "event.id": eventId } })
    )

/** What was replayed and is not in the outbox was delivered since, and its row removed. */
const stateOf = ({ replayedAt, state }: Place): Place["state"] => (replayedAt === null ? state : "delivered")
