/** Closing failures without delivering their events. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type { BatchFailure, FailureClosed, FailureId, FailureNotFound } from "../schema/failures.ts"
import { change, lockAll, lockOpen } from "./lock.ts"
import { get } from "./read.ts"

interface Closing {
  readonly action: string
  readonly state: string
}

const DISCARD: Closing = { action: "discard", state: "discarded" }
const RESOLVE: Closing = { action: "resolve", state: "resolved" }

const close =
  (closing: Closing) =>
  (sql: SqlClient.SqlClient) =>
  (
    failureId: FailureId,
    note: string,
    actor: string
  ): Effect.Effect<BatchFailure, FailureNotFound | FailureClosed | SqlError> =>
    lockOpen(sql, failureId).pipe(
      Effect.zipRight(closeLocked(sql, closing, [failureId], note, actor)),
      Effect.zipRight(get(sql)(failureId)),
      change(sql),
      Effect.tap(report(closing, actor, [failureId])),
      Effect.withSpan(`BatchFailures.${closing.action}`, { attributes: { "failure.id": failureId } })
    )

export const discard = close(DISCARD)
export const resolve = close(RESOLVE)

export const discardAll =
  (sql: SqlClient.SqlClient) =>
  (
    failureIds: ReadonlyArray<FailureId>,
    note: string,
    actor: string
  ): Effect.Effect<ReadonlyArray<FailureId>, SqlError> =>
    lockAll(sql, failureIds, ["open"]).pipe(
      Effect.tap((open) => closeLocked(sql, DISCARD, open, note, actor)),
      change(sql),
      Effect.tap((closed) => report(DISCARD, actor, closed)),
      Effect.withSpan("BatchFailures.discardAll")
    )

const report = ({ state }: Closing, actor: string, failureIds: ReadonlyArray<FailureId>) =>
  Effect.forEach(
    failureIds,
    (failureId) =>
      Effect.logInfo("Closed a failure").pipe(Effect.annotateLogs({ actor, "failure.id": failureId, state })),
    { discard: true }
  )

/** The rows are locked, so what was read of them is what is changed. */
const closeLocked = (
  sql: SqlClient.SqlClient,
  { action, state }: Closing,
  failureIds: ReadonlyArray<FailureId>,
  note: string,
  actor: string
) => sql`
  WITH closed AS (
    UPDATE outbox.batch_failure SET state = ${state}, note = ${note}, closed_at = clock_timestamp()
    WHERE id = ANY (${failureIds}::bigint[])
    RETURNING id
  )
  INSERT INTO outbox.audit (actor, action, failure_id, before, after)
  SELECT
    ${actor}, ${action}, id,
    jsonb_build_object('state', 'open'),
    jsonb_build_object('state', ${state}::text, 'note', ${note}::text)
  FROM closed
  ORDER BY id
`
