/** How rows of `outbox.batch` are read. */
import type * as SqlClient from "@effect/sql/SqlClient"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { Batch } from "../Batch.ts"

/** A time as milliseconds since 1970: how Postgres prints a timestamp depends on the database's DateStyle. */
export const millis = (timestamp: string): string => `floor(extract(epoch FROM ${timestamp}) * 1000)::float8`

/** How many events wait in a batch, and since when. One that was requeued waits for what ClickHouse was found to lack. */
export const WAITING = "coalesce(missing_count, event_count)"
export const WAITS_SINCE = "CASE WHEN was_delivered_at IS NULL THEN first_published_at ELSE first_error_at END"

/** The immutable columns under the names of {@link Batch}'s fields. Timestamps that ClickHouse compares stay text. */
export const batchColumns = (sql: SqlClient.SqlClient) =>
  sql.literal(`
  batch.id::text AS "id",
  batch.token AS "token",
  batch.from_snapshot::text AS "fromSnapshot",
  batch.to_snapshot::text AS "toSnapshot",
  batch.first_tx_id::text AS "firstTxId",
  batch.first_id::text AS "firstId",
  batch.last_tx_id::text AS "lastTxId",
  batch.last_id::text AS "lastId",
  batch.event_count AS "eventCount",
  batch.byte_count::text AS "byteCount",
  batch.slots AS "slots",
  batch.event_types AS "eventTypes",
  to_char(batch.first_event_date_time AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') AS "firstEventDateTime",
  to_char(batch.last_event_date_time AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') AS "lastEventDateTime",
  ${millis("batch.first_published_at")} AS "firstPublishedAt",
  batch.traceparents AS "traceparents",
  ${millis("batch.sealed_at")} AS "sealedAt"
`)

/** The manifest is ours and its columns are typed, so a row that does not decode is a defect. */
export const decodeBatch = (row: unknown): Effect.Effect<Batch> => Effect.orDie(Schema.decodeUnknown(Batch)(row))
