/** Whether Postgres can be used. */
import type * as SqlClient from "@effect/sql/SqlClient"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { NotMigrated } from "../NotMigrated.ts"
import { reasonOf } from "../Reason.ts"
import { DatabaseState } from "./systemsModel.ts"

/** Who takes longer does not answer. */
export const PATIENCE = Duration.seconds(3)

export const unreachable = (reason: string): DatabaseState =>
  new DatabaseState({ reachable: false, migrated: false, reason, version: null, pingMillis: null })

export const inTime = <E>(ask: Effect.Effect<DatabaseState, E>): Effect.Effect<DatabaseState> =>
  ask.pipe(
    Effect.catchAll((error) => Effect.succeed(unreachable(reasonOf(error)))),
    // Waiting for a connection cannot be interrupted.
    Effect.disconnect,
    Effect.timeoutTo({
      duration: PATIENCE,
      onSuccess: (state) => state,
      onTimeout: () => unreachable(`no answer within ${Duration.format(PATIENCE)}`)
    })
  )

export const postgresState = (sql: SqlClient.SqlClient): Effect.Effect<DatabaseState> =>
  sql<{ version: string; migrated: boolean }>`
    SELECT current_setting('server_version') AS version, to_regclass('outbox.audit') IS NOT NULL AS migrated
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
