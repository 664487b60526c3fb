/** What time alone changes. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { interval } from "./held.ts"
import { closeIncidents } from "./incident.ts"

export interface Retention {
  readonly failureRetention: Duration.Duration
}

export const housekeep =
  (sql: SqlClient.SqlClient) =>
  ({ failureRetention }: Retention): Effect.Effect<void, SqlError> =>
    Effect.gen(function* () {
      const tooOld = sql`< clock_timestamp() - ${interval(sql, failureRetention)}`
      yield* closeIncidents(sql)
      // Its events go with it. None is opened again, so one that is closed for long cannot be in use.
      yield* sql`DELETE FROM outbox.batch_failure WHERE state <> 'open' AND closed_at ${tooOld}`
      yield* sql`DELETE FROM outbox.incident WHERE closed_at ${tooOld}`
      yield* sql`
        DELETE FROM outbox.audit
        WHERE occurred_at ${tooOld}
          AND NOT EXISTS (SELECT FROM outbox.batch_failure WHERE batch_failure.id = audit.failure_id)
      `
    }).pipe(Effect.withSpan("OutboxStore.housekeep"))
