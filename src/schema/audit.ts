/** Who changed what: rows of `outbox.audit`. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { FailureId } from "../Batch.ts"
import { EventId } from "../Event.ts"
import { column, DEFAULT_LIMIT, type Page, rfc3339, rowsOf } from "./columns.ts"

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
 * @since 0.1.0
 * @category models
 */
export interface AuditFilter {
  readonly failureId?: FailureId | undefined
}

/** Newest first. One statement, and so one snapshot. */
export const audit = (
  sql: SqlClient.SqlClient,
  { failureId }: AuditFilter = {},
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
  `.pipe(rowsOf(AuditEntry), Effect.withSpan("BatchFailures.audit"))
