/**
 * The audit trail: who changed what. The functions by which operators change something write it, in the statement of the
 * change, so that neither is there alone: see migrations/postgres/0002_batch_failure.sql.
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { FailureId } from "../Batch.ts"
import { EventId } from "../Event.ts"
import { column, DEFAULT_LIMIT, type Page, rfc3339, rowsOf } from "./columns.ts"

/**
 * Who changes something: a name for people to read in the audit trail, in one line.
 *
 * @since 0.1.0
 * @category models
 */
export const Actor = Schema.String.pipe(
  Schema.pattern(/^[^\p{Cc}\p{Bidi_Control}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]{1,255}$/u, {
    message: () => "Expected 1 to 255 characters that can be printed in one line"
  }),
  Schema.brand("Actor")
)
export type Actor = typeof Actor.Type

/**
 * One change that an operator made: a row of `outbox.audit`.
 *
 * @since 0.1.0
 * @category models
 */
export class AuditEntry extends Schema.Class<AuditEntry>("AuditEntry")({
  id: Schema.Int,
  occurredAt: column("occurred_at", Schema.Date),
  actor: Schema.String,
  action: Schema.Literal("correct", "replay", "discard", "resolve", "reopen", "requeue", "pause", "resume"),
  failureId: column("failure_id", Schema.NullOr(FailureId)),
  eventId: column("event_id", Schema.NullOr(EventId)),
  /** What was changed, as it was: JSON as Postgres writes it, in which no number has lost a digit. */
  before: Schema.String,
  after: Schema.String
}) {}

/**
 * An entry as JSON, in which what was and what is are JSON too, every digit as it is.
 *
 * @since 0.1.0
 * @category encoding
 */
export const auditToJson = (entry: AuditEntry): string => {
  const { after, before, ...rest } = Schema.encodeSync(AuditEntry)(entry)
  return `${JSON.stringify(rest).slice(0, -1)},"before":${before},"after":${after}}`
}

/**
 * Which entries: all of them, or those of one failure.
 *
 * @since 0.1.0
 * @category models
 */
export interface AuditFilter {
  readonly failureId?: FailureId | undefined
}

/** Newest first. One statement, and so one snapshot. */
export const readAudit = (
  sql: SqlClient.SqlClient,
  { failureId }: AuditFilter,
  { after, limit = DEFAULT_LIMIT }: Page<number> = {}
): Effect.Effect<ReadonlyArray<AuditEntry>, SqlError> =>
  sql`
    SELECT
      id::float8 AS id,
      ${sql.literal(rfc3339("occurred_at"))} AS occurred_at,
      actor, action, failure_id::float8 AS failure_id, event_id, before::text AS before, after::text AS after
    FROM outbox.audit
    WHERE ${failureId === undefined ? sql`true` : sql`failure_id = ${failureId}`}
      AND ${after === undefined ? sql`true` : sql`id < ${after}`}
    ORDER BY id DESC
    LIMIT ${limit}
  `.pipe(rowsOf(AuditEntry))
