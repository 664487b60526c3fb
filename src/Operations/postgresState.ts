/** Whether Postgres can be used. */
import type * as SqlClient from "@effect/sql/SqlClient"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { DatabaseState } from "../internal/databaseState.ts"
import { inTime } from "../internal/reachable.ts"
import { HAS_OUTBOX, NotMigrated } from "../schema/compatibility.ts"

export const postgresState = (sql: SqlClient.SqlClient): Effect.Effect<DatabaseState> =>
  sql<{ version: string; migrated: boolean }>`
    SELECT current_setting('server_version') AS version, ${sql.literal(HAS_OUTBOX)} AS migrated
  `.pipe(
    Effect.timed,
    Effect.map(([duration, [row]]) => {
      const migrated = row?.migrated === true
      return new DatabaseState({
        reachable: true,
        migrated,
        reason: migrated ? null : new NotMigrated().message,
        version: row?.version ?? null,
        pingMillis: Duration.toMillis(duration)
      })
    }),
    inTime,
    Effect.withSpan("Operations.postgres")
  )
