/** What went wrong, and what still does. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { DEFAULT_LIMIT, type Page, rfc3339 } from "../schema/columns.ts"
import { Incident } from "../schema/deliveries.ts"

/** Newest first. One statement, and so one snapshot. */
export const incidents =
  (sql: SqlClient.SqlClient) =>
  (
    { state }: { readonly state?: Incident["state"] | undefined } = {},
    { after, limit = DEFAULT_LIMIT }: Page<number> = {}
  ): Effect.Effect<ReadonlyArray<Incident>, SqlError> =>
    sql`
      SELECT
        id::float8 AS id,
        state,
        error_class AS class,
        error_code AS code,
        error_message AS message,
        ${sql.literal(rfc3339("began_at"))} AS began_at,
        ${sql.literal(rfc3339("opened_at"))} AS opened_at,
        ${sql.literal(rfc3339("last_seen_at"))} AS last_seen_at,
        ${sql.literal(rfc3339("closed_at"))} AS closed_at,
        attempts,
        batch_ids::float8[] AS batch_ids
      FROM outbox.incident_status
      WHERE ${state === undefined ? sql`true` : sql`state = ${state}`}
        AND ${after === undefined ? sql`true` : sql`id < ${after}`}
      ORDER BY id DESC
      LIMIT ${limit}
    `.pipe(
      Effect.flatMap((rows) => Effect.orDie(Schema.decodeUnknown(Schema.Array(Incident))(rows))),
      Effect.withSpan("Operations.incidents")
    )
