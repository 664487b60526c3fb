/** Closing a failure without delivering its events. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import { change, lockOpen } from "./lock.ts"
import type { BatchFailure, FailureClosed, FailureId, FailureNotFound } from "./model.ts"
import { get } from "./read.ts"

export const close =
  (sql: SqlClient.SqlClient, { action, state }: { readonly action: string; readonly state: string }) =>
  (
    failureId: FailureId,
    note: string,
    actor: string
  ): Effect.Effect<BatchFailure, FailureNotFound | FailureClosed | SqlError> =>
    lockOpen(sql, failureId).pipe(
      // The row is locked, so what is read here is what is changed.
      Effect.zipRight(sql`
        WITH closed AS (
          UPDATE outbox.batch_failure SET state = ${state}, note = ${note}, closed_at = clock_timestamp()
          WHERE id = ${failureId}
          RETURNING id
        )
        INSERT INTO outbox.audit (actor, action, failure_id, before, after)
        SELECT
          ${actor}, ${action}, id,
          jsonb_build_object('state', 'open'),
          jsonb_build_object('state', ${state}::text, 'note', ${note}::text)
        FROM closed
      `),
      Effect.zipRight(get(sql)(failureId)),
      change(sql),
      Effect.tap(
        Effect.logInfo("Closed a failure").pipe(Effect.annotateLogs({ actor, "failure.id": failureId, state }))
      ),
      Effect.withSpan(`BatchFailures.${action}`, { attributes: { "failure.id": failureId } })
    )
