/** Whether the database has this release's outbox. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

/**
 * The schema `outbox` is not there, or lacks what a later migration adds.
 *
 * @since 0.1.0
 * @category errors
 */
export class NotMigrated extends Schema.TaggedError<NotMigrated>()("NotMigrated", {}) {
  override get message(): string {
    return 'The database has no outbox yet, or one of an older release. Run "clickhouse-outbox migrate"'
  }
}

/** Looks for the newest table: migrations run in order, so whoever has it has the others. */
export const requireOutbox = (sql: SqlClient.SqlClient): Effect.Effect<void, NotMigrated | SqlError> =>
  sql<{ found: boolean }>`SELECT to_regclass('outbox.audit') IS NOT NULL AS found`.pipe(
    Effect.flatMap(([row]) => (row?.found === true ? Effect.void : new NotMigrated()))
  )
