/** Rows of `outbox.batch`, the manifest: how they are read, and how a delivered one is requeued. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import type * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { Batch } from "../Batch.ts"
import type { EventId } from "../Event.ts"
import { atomically } from "../Transaction.ts"
import type { Actor } from "./audit.ts"
import { firstRowOf, millis } from "./columns.ts"
import { PLAN_SETTINGS, rows, withEventIds } from "./events.ts"

/**
 * How many events wait in a batch, and since when. One that was requeued waits for what ClickHouse was found to lack.
 */
export const WAITING = "coalesce(missing_count, event_count)"
export const WAITS_SINCE = "CASE WHEN was_delivered_at IS NULL THEN first_published_at ELSE first_error_at END"

/** The immutable columns of `batch` as a {@link Batch}. Timestamps that ClickHouse compares stay text. */
export const BATCH_COLUMNS = `
  batch.id::float8 AS "id",
  batch.token AS "token",
  batch.from_snapshot::text AS "fromSnapshot",
  batch.to_snapshot::text AS "toSnapshot",
  batch.first_tx_id::text AS "firstTxId",
  batch.first_id::text AS "firstId",
  batch.last_tx_id::text AS "lastTxId",
  batch.last_id::text AS "lastId",
  batch.event_count AS "eventCount",
  batch.byte_count::float8 AS "byteCount",
  batch.slots AS "slots",
  batch.event_types AS "eventTypes",
  batch.by_type AS "byType",
  to_char(batch.first_event_date_time AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') AS "firstEventDateTime",
  to_char(batch.last_event_date_time AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') AS "lastEventDateTime",
  ${millis("batch.first_published_at")} AS "firstPublishedAt",
  batch.traceparents AS "traceparents",
  ${millis("batch.sealed_at")} AS "sealedAt"
`

/** A batch that was delivered, and when: to the microsecond, so that a later delivery is not taken for this one. */
export class Delivered extends Batch.extend<Delivered>("Delivered")({ deliveredAt: Schema.String }) {}

const Requeued = Schema.Struct({ done: Schema.Boolean })

/**
 * Makes a delivered batch pending again, so that a relay asks ClickHouse which of its events are missing and sends
 * those. False if it is no longer as it was seen: somebody else requeued it, or its rows are gone.
 *
 * Rows that are read here keep their slot from being emptied until this is committed, and a slot of a pending batch is
 * not emptied. The relay asks ClickHouse itself, so it is harmless that this process may have asked another table.
 */
export const requeue = (
  sql: SqlClient.SqlClient,
  batch: Delivered,
  { actor, missing }: { readonly actor: Actor; readonly missing: Arr.NonEmptyReadonlyArray<EventId> }
): Effect.Effect<boolean, SqlError> =>
  sql`
    WITH retained AS (
      SELECT count(*) AS count FROM (${sql.literal(rows(batch, "event_id", withEventIds(missing)))}) AS events
    ),
    requeued AS (
      SELECT CASE
        WHEN retained.count >= ${missing.length}
          THEN outbox.requeue(${batch.id}, ${batch.deliveredAt}::timestamptz, ${missing.length}, ${actor})
      END AS done
      FROM retained
    )
    SELECT done FROM requeued WHERE done
  `.pipe(firstRowOf(Requeued), Effect.map(Option.isSome), atomically(sql, REQUEUE_SETTINGS))

const REQUEUE_SETTINGS = `
  SET TRANSACTION ISOLATION LEVEL READ COMMITTED READ WRITE;
  ${PLAN_SETTINGS}`

/** Idle relays look for work when the number of batches moves. Sequences move at once, so only after the commit. */
export const wakeRelays = (sql: SqlClient.SqlClient): Effect.Effect<void, SqlError> =>
  Effect.asVoid(sql`SELECT nextval('outbox.batch_id_seq')`)
