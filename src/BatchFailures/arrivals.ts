/** What became of events that were replayed. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { Arrivals, type FailureId } from "../schema/failures.ts"

/**
 * Says of each event what {@link Operations.where} says, and reads the whole outbox as that does. The few transactions
 * that events were replayed in are looked up among the batches, not each event.
 */
export const arrivals =
  (sql: SqlClient.SqlClient) =>
  (failureIds: ReadonlyArray<FailureId>): Effect.Effect<Arrivals, SqlError> =>
    // One statement, one snapshot: an event is not missed between its row in the outbox and its next failure.
    sql`
      WITH replayed AS MATERIALIZED (
        SELECT
          event_id,
          EXISTS (
            SELECT FROM outbox.batch_failure_event AS again
            WHERE again.event_id = event.event_id AND again.replayed_at IS NULL
          ) AS failed
        FROM outbox.batch_failure_event AS event
        WHERE failure_id = ANY (${failureIds}::bigint[]) AND replayed_at IS NOT NULL
        GROUP BY event_id
      ),
      newest AS MATERIALIZED (
        -- A row that was published again has the time of the first.
        SELECT DISTINCT ON (event_id) event_id, tx_id, id
        FROM replayed JOIN outbox.event USING (event_id)
        WHERE NOT failed
        ORDER BY event_id, published_at DESC, tx_id DESC, id DESC
      ),
      settled AS MATERIALIZED (
        SELECT tx_id, first_tx_id, first_id, last_tx_id, last_id
        FROM (SELECT DISTINCT tx_id FROM newest) AS published
        JOIN outbox.batch
          ON state IN ('delivered', 'failed')
         AND tx_id BETWEEN first_tx_id AND last_tx_id
         AND pg_visible_in_snapshot(tx_id, to_snapshot)
         AND NOT pg_visible_in_snapshot(tx_id, from_snapshot)
      ),
      pending AS (
        SELECT event_id
        FROM newest
        WHERE NOT EXISTS (
          SELECT FROM settled
          WHERE settled.tx_id = newest.tx_id
            AND (newest.tx_id, newest.id) >= (first_tx_id, first_id)
            AND (newest.tx_id, newest.id) <= (last_tx_id, last_id)
        )
      )
      -- What has left the outbox was delivered, also where the row that was refused before is still there.
      SELECT
        count(*) FILTER (WHERE failed)::integer AS failed,
        count(pending.event_id)::integer AS pending,
        count(*) FILTER (WHERE NOT failed AND pending.event_id IS NULL)::integer AS delivered
      FROM replayed LEFT JOIN pending USING (event_id)
    `.pipe(
      Effect.flatMap((rows) => Effect.orDie(Arr.head(rows))),
      Effect.flatMap((row) => Effect.orDie(Schema.decodeUnknown(Arrivals)(row))),
      Effect.withSpan("BatchFailures.arrivals")
    )
