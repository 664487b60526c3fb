/** Batches as the manifest has them. Each is one statement, and so one snapshot. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { DEFAULT_LIMIT, type Page, rfc3339 } from "../schema/columns.ts"
import { BatchNotFound, type BatchState, BatchStatus } from "../schema/deliveries.ts"

const COLUMNS = `
  id::float8 AS id,
  state,
  event_count,
  byte_count::float8 AS byte_count,
  attempts,
  error_class AS class,
  error_code AS code,
  error_message AS message,
  ${rfc3339("sealed_at")} AS sealed_at,
  ${rfc3339("first_error_at")} AS first_error_at,
  CASE WHEN state IN ('leased', 'retrying', 'blocked') THEN ${rfc3339("available_at")} END AS available_at,
  ${rfc3339("delivered_at")} AS delivered_at,
  lease_holder,
  parent_id::float8 AS parent_id,
  origin_id::float8 AS origin_id,
  incident_id::float8 AS incident_id,
  (SELECT failure.id::float8 FROM outbox.batch_failure AS failure WHERE failure.batch_id = batch.id) AS failure_id,
  token`

const decode = (rows: unknown): Effect.Effect<ReadonlyArray<BatchStatus>> =>
  Effect.orDie(Schema.decodeUnknown(Schema.Array(BatchStatus))(rows))

/** Which batches. Everything given must hold. */
export interface BatchFilter {
  readonly state?: BatchState | undefined
  /** Those that were cut out of this one, and itself. */
  readonly originId?: number | undefined
  /** Those that this one was cut into. */
  readonly parentId?: number | undefined
}

export const batches =
  (sql: SqlClient.SqlClient) =>
  (
    { originId, parentId, state }: BatchFilter,
    { after, limit = DEFAULT_LIMIT }: Page<number> = {}
  ): Effect.Effect<ReadonlyArray<BatchStatus>, SqlError> =>
    sql`
      SELECT ${sql.literal(COLUMNS)}
      FROM outbox.batch_status AS batch
      WHERE ${state === undefined ? sql`true` : sql`state = ${state}`}
        AND ${isPending(state) ? sql`id IN (SELECT id FROM outbox.batch WHERE state = 'pending')` : sql`true`}
        AND ${originId === undefined ? sql`true` : sql`(id = ${originId} OR origin_id = ${originId})`}
        AND ${parentId === undefined ? sql`true` : sql`parent_id = ${parentId}`}
        AND ${after === undefined ? sql`true` : sql`id < ${after}`}
      ORDER BY id DESC
      LIMIT ${limit}
    `.pipe(Effect.flatMap(decode), Effect.withSpan("Operations.batches"))

/** These are told apart by more than what is stored; the index knows only that they are few. */
const isPending = (state: BatchState | undefined): boolean =>
  state !== undefined && !["delivered", "split", "failed"].includes(state)

export const batch =
  (sql: SqlClient.SqlClient) =>
  (batchId: number): Effect.Effect<BatchStatus, BatchNotFound | SqlError> =>
    sql`SELECT ${sql.literal(COLUMNS)} FROM outbox.batch_status AS batch WHERE id = ${batchId}`.pipe(
      Effect.flatMap(decode),
      Effect.flatMap(Arr.head),
      Effect.catchTag("NoSuchElementException", () => new BatchNotFound({ batchId })),
      Effect.withSpan("Operations.batch")
    )
