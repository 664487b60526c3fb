/**
 * Changing a failure: a transaction that holds the failure's row from its first statement on. The statements after it
 * have snapshots of their own, so they see what whoever held the row before has committed.
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import {
  EventReplayed,
  FailedEventNotFound,
  FailureClosed,
  FailureId,
  FailureNotFound,
  type FailureState
} from "../schema/failures.ts"
import { atomically } from "../Transaction.ts"

/** Whole or not at all. At a stricter isolation the snapshot would be older than the lock. */
export const change = (sql: SqlClient.SqlClient) => atomically(sql, "SET TRANSACTION ISOLATION LEVEL READ COMMITTED")

/** Fails unless the failure is open, and keeps it so until the transaction ends. */
export const lockOpen = (
  sql: SqlClient.SqlClient,
  failureId: FailureId
): Effect.Effect<void, FailureNotFound | FailureClosed | SqlError> =>
  lock(sql, failureId).pipe(
    Effect.filterOrFail(
      (state) => state === "open",
      (state) => new FailureClosed({ failureId, state })
    ),
    Effect.asVoid
  )

/** What state the failure is in, and stays in until the transaction ends. */
export const lock = (
  sql: SqlClient.SqlClient,
  failureId: FailureId
): Effect.Effect<FailureState, FailureNotFound | SqlError> =>
  Effect.gen(function* () {
    const [failure] = yield* sql<{ state: FailureState }>`
      SELECT state FROM outbox.batch_failure WHERE id = ${failureId} FOR UPDATE
    `
    return failure === undefined ? yield* new FailureNotFound({ failureId }) : failure.state
  })

/**
 * Those of the failures that are in one of these states, and stay in it until the transaction ends. Locked in the order
 * of their ids, so that two who change several at once do not wait for each other.
 */
export const lockAll = (
  sql: SqlClient.SqlClient,
  failureIds: ReadonlyArray<FailureId>,
  states: ReadonlyArray<FailureState>
): Effect.Effect<ReadonlyArray<FailureId>, SqlError> =>
  sql<{ id: number }>`
    SELECT id::float8 AS id
    FROM outbox.batch_failure
    WHERE id = ANY (${failureIds}::bigint[]) AND state = ANY (${states}::text[])
    ORDER BY outbox.batch_failure.id
    FOR UPDATE
  `.pipe(Effect.map((rows) => rows.map(({ id }) => FailureId.make(id))))

/**
 * The row of an event that was not replayed yet: the oldest one, should several have been published under the id. The
 * failure is locked, so nobody else changes it.
 */
export const findEvent = (
  sql: SqlClient.SqlClient,
  failureId: FailureId,
  eventId: string
): Effect.Effect<string, FailedEventNotFound | EventReplayed | SqlError> =>
  Effect.gen(function* () {
    const [event] = yield* sql<{ id: string; replayed: boolean }>`
      SELECT id::text, replayed_at IS NOT NULL AS replayed
      FROM outbox.batch_failure_event
      WHERE failure_id = ${failureId} AND event_id::text = lower(${eventId})
      ORDER BY replayed_at NULLS FIRST, id
      LIMIT 1
    `
    if (event === undefined) return yield* new FailedEventNotFound({ failureId, eventId })
    if (event.replayed) return yield* new EventReplayed({ failureId, eventId })
    return event.id
  })
