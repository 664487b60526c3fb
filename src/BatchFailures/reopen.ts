/**
 * Taking back that a failure was closed. Its events are kept as long as it is, so it can be dealt with as if nothing had
 * happened. What was replayed is published: that cannot be taken back.
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import {
  type BatchFailure,
  type FailureId,
  type FailureNotFound,
  FailureNotReopened,
  type FailureState
} from "../schema/failures.ts"
import { change, lock, lockAll } from "./lock.ts"
import { get } from "./read.ts"

/** What an operator only wrote down. */
const TAKEN_BACK: ReadonlyArray<FailureState> = ["discarded", "resolved"]

export const reopen =
  (sql: SqlClient.SqlClient) =>
  (failureId: FailureId, actor: string): Effect.Effect<BatchFailure, FailureNotFound | FailureNotReopened | SqlError> =>
    lock(sql, failureId).pipe(
      Effect.filterOrFail(
        (state) => TAKEN_BACK.includes(state),
        (state) => new FailureNotReopened({ failureId, state })
      ),
      Effect.zipRight(reopenLocked(sql, [failureId], actor)),
      Effect.zipRight(get(sql)(failureId)),
      change(sql),
      Effect.tap(report(actor, [failureId])),
      Effect.withSpan("BatchFailures.reopen", { attributes: { "failure.id": failureId } })
    )

export const reopenAll =
  (sql: SqlClient.SqlClient) =>
  (failureIds: ReadonlyArray<FailureId>, actor: string): Effect.Effect<ReadonlyArray<FailureId>, SqlError> =>
    lockAll(sql, failureIds, TAKEN_BACK).pipe(
      Effect.tap((closed) => reopenLocked(sql, closed, actor)),
      change(sql),
      Effect.tap((reopened) => report(actor, reopened)),
      Effect.withSpan("BatchFailures.reopenAll")
    )

const report = (actor: string, failureIds: ReadonlyArray<FailureId>) =>
  Effect.forEach(
    failureIds,
    (failureId) => Effect.logInfo("Reopened a failure").pipe(Effect.annotateLogs({ actor, "failure.id": failureId })),
    { discard: true }
  )

/** The rows are locked, so what the snapshot has of them is what they are. */
const reopenLocked = (sql: SqlClient.SqlClient, failureIds: ReadonlyArray<FailureId>, actor: string) => sql`
  WITH before AS (
    SELECT id, state, note FROM outbox.batch_failure WHERE id = ANY (${failureIds}::bigint[])
  ),
  reopened AS (
    UPDATE outbox.batch_failure SET state = 'open', note = NULL, closed_at = NULL
    WHERE id = ANY (${failureIds}::bigint[])
  )
  INSERT INTO outbox.audit (actor, action, failure_id, before, after)
  SELECT
    ${actor}, 'reopen', id, jsonb_build_object('state', state, 'note', note), jsonb_build_object('state', 'open')
  FROM before
  ORDER BY id
`
