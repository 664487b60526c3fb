/** What becomes of a batch that ClickHouse refuses although it has a part of it. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type { Lease } from "../Batch.ts"
import type { EventId } from "../Event.ts"
import { only, rows } from "../schema/rows.ts"
import { atomically } from "../Transaction.ts"
import { delivered, isOwner, orLost } from "./held.ts"
import { closeIncidents } from "./incident.ts"
import { changed, SETTINGS } from "./isolate.ts"
import type { BatchChanged, LeaseLost } from "./model.ts"

export const republish =
  (sql: SqlClient.SqlClient) =>
  (
    lease: Lease,
    missing: readonly [EventId, ...ReadonlyArray<EventId>]
  ): Effect.Effect<void, BatchChanged | LeaseLost | SqlError> =>
    Effect.gen(function* () {
      const { endsIncident } = yield* Effect.gen(function* () {
        const marked = yield* Effect.flatMap(markDelivered(sql, lease, missing), orLost(lease))
        const [published] = yield* publishAgain(sql, lease, missing)
        // Of several events under one id all are missing or none, and each is listed.
        if (published?.count !== missing.length) return yield* changed(sql, lease.batch)
        return marked
      }).pipe(atomically(sql, SETTINGS))
      yield* Effect.when(closeIncidents(sql), () => endsIncident)
    }).pipe(Effect.withSpan("OutboxStore.republish"))

const markDelivered = (sql: SqlClient.SqlClient, lease: Lease, missing: ReadonlyArray<EventId>) =>
  sql<{ endsIncident: boolean }>`
    UPDATE outbox.batch SET
      ${delivered(sql)},
      republished_event_ids = coalesce(republished_event_ids, '{}') || ${missing}::uuid[]
    WHERE ${isOwner(sql, lease)}
    RETURNING incident_id IS NOT NULL AS "endsIncident"
  `

/**
 * In the order in which they were published. When they were published is kept: they have waited since then. So they are
 * due at once.
 */
const publishAgain = (sql: SqlClient.SqlClient, { batch }: Lease, missing: ReadonlyArray<EventId>) =>
  sql<{ count: number }>`
    WITH published AS (
      INSERT INTO outbox.event (${sql.literal(COLUMNS)}, slot)
      SELECT ${sql.literal(COLUMNS)}, (SELECT outbox.current_slot())
      FROM (${sql.literal(rows(batch, `${COLUMNS}, tx_id, id`, only(missing)))}) AS events
      ORDER BY tx_id, id
      RETURNING id
    )
    SELECT count(*)::integer AS count FROM published
  `

/** All but those that say in which transaction and in which place an event is. */
const COLUMNS = `
  event_id, event_type, event_date_time, environment, event_context, context_bytes, metadata_version, traceparent,
  published_at`
