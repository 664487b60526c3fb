/** A past: batches as relays leave them in the manifest, at times of the test's choice. */
import * as SqlClient from "@effect/sql/SqlClient"
import * as Effect from "effect/Effect"

/** Times are seconds before now. */
export interface Past {
  readonly events: number
  /** When the first of them was published. */
  readonly published: number
  readonly sealed: number
  /** Not yet, unless set. */
  readonly delivered?: number
  /** `host/pid/worker` */
  readonly owner?: string
}

export const write = (batches: ReadonlyArray<Past>) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    // One present for all of them, however long it takes to write them.
    const [row] = yield* sql<{ now: string }>`SELECT clock_timestamp()::text AS now`
    const ago = (seconds: number | undefined) =>
      seconds === undefined ? sql`NULL` : sql`${row?.now}::timestamptz - ${seconds}::float8 * interval '1 second'`
    yield* Effect.forEach(
      batches,
      ({ delivered, events, owner = "elsewhere/1/0", published, sealed }) => sql`
        INSERT INTO outbox.batch (
          from_snapshot, to_snapshot, first_tx_id, first_id, last_tx_id, last_id, event_count, byte_count, slots,
          event_types, first_event_date_time, last_event_date_time, first_published_at, traceparents, sealed_at,
          state, lease_owner, delivered_at
        )
        VALUES (
          pg_current_snapshot(), pg_current_snapshot(), '1', 1, '1', 1, ${events}, 0, '{0}',
          '{history}', clock_timestamp(), clock_timestamp(), ${ago(published)}, '{}', ${ago(sealed)},
          ${delivered === undefined ? "pending" : "delivered"}, ${owner}, ${ago(delivered)}
        )
      `,
      { discard: true }
    )
  })
