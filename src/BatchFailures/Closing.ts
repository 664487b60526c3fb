/**
 * Closing failures without delivering their events, and taking that back. The events are kept as long as the failure is,
 * so it can be dealt with as if nothing had happened. What was replayed is published: that cannot be taken back.
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type { FailureId } from "../Batch.ts"
import { type Actor, insertAudit } from "../schema/audit.ts"
import { type BatchFailure, type FailureNotFound, FailureNotReopened, type FailureState } from "../schema/failures.ts"
import * as Locking from "./Locking.ts"

/** How a failure is closed: which state it comes to, why, and who says so. */
interface Closing {
  readonly action: "discard" | "resolve"
  readonly state: FailureState
  readonly note: string
  readonly actor: Actor
}

/** Why failures are discarded, and who does. */
interface Discard {
  readonly note: string
  readonly actor: Actor
}

/** How a failure was taken care of, and who says so. */
interface Resolve {
  readonly note: string
  readonly actor: Actor
}

/** What an operator only wrote down. */
const REOPENABLE: ReadonlyArray<FailureState> = ["discarded", "resolved"]

export const make = (
  sql: SqlClient.SqlClient,
  get: (failureId: FailureId) => Effect.Effect<BatchFailure, FailureNotFound | SqlError>
) => {
  const { atomically, lock, lockAll, lockOpen } = Locking.make(sql)

  /** The rows are locked, so what was read of them is what is changed. */
  const closeLocked = (failureIds: ReadonlyArray<FailureId>, { action, actor, note, state }: Closing) => sql`
    WITH closed AS (
      UPDATE outbox.batch_failure SET state = ${state}, note = ${note}, closed_at = clock_timestamp()
      WHERE id = ANY (${failureIds}::bigint[])
      RETURNING id
    )
    ${insertAudit(sql, {
      actor,
      action,
      failureId: sql`id`,
      before: sql`jsonb_build_object('state', 'open')`,
      after: sql`jsonb_build_object('state', ${state}::text, 'note', ${note}::text)`,
      from: sql`closed ORDER BY id`
    })}
  `

  /** The rows are locked, so what the snapshot has of them is what they are. */
  const reopenLocked = (failureIds: ReadonlyArray<FailureId>, actor: Actor) => sql`
    WITH closed AS (
      SELECT id, state, note FROM outbox.batch_failure WHERE id = ANY (${failureIds}::bigint[])
    ),
    reopened AS (
      UPDATE outbox.batch_failure SET state = 'open', note = NULL, closed_at = NULL
      WHERE id = ANY (${failureIds}::bigint[])
    )
    ${insertAudit(sql, {
      actor,
      action: "reopen",
      failureId: sql`id`,
      before: sql`jsonb_build_object('state', state, 'note', note)`,
      after: sql`jsonb_build_object('state', 'open')`,
      from: sql`closed ORDER BY id`
    })}
  `

  const close = Effect.fnUntraced(function* (failureId: FailureId, closing: Closing) {
    yield* Effect.annotateCurrentSpan("failure.id", failureId)
    const closed = yield* lockOpen(failureId).pipe(
      Effect.zipRight(closeLocked([failureId], closing)),
      Effect.zipRight(get(failureId)),
      atomically
    )
    yield* logClosed([failureId], closing)
    return closed
  })

  const closeAll = Effect.fnUntraced(function* (failureIds: ReadonlyArray<FailureId>, closing: Closing) {
    const closed = yield* lockAll(failureIds, ["open"]).pipe(
      Effect.tap((open) => closeLocked(open, closing)),
      atomically
    )
    yield* logClosed(closed, closing)
    return closed
  })

  return {
    discard: Effect.fn("BatchFailures.discard")((failureId: FailureId, { actor, note }: Discard) =>
      close(failureId, { action: "discard", state: "discarded", note, actor })
    ),

    discardAll: Effect.fn("BatchFailures.discardAll")(
      (failureIds: ReadonlyArray<FailureId>, { actor, note }: Discard) =>
        closeAll(failureIds, { action: "discard", state: "discarded", note, actor })
    ),

    resolve: Effect.fn("BatchFailures.resolve")((failureId: FailureId, { actor, note }: Resolve) =>
      close(failureId, { action: "resolve", state: "resolved", note, actor })
    ),

    reopen: Effect.fn("BatchFailures.reopen")(function* (failureId: FailureId, { actor }: { readonly actor: Actor }) {
      yield* Effect.annotateCurrentSpan("failure.id", failureId)
      const reopened = yield* lock(failureId).pipe(
        Effect.filterOrFail(
          (state) => REOPENABLE.includes(state),
          (state) => new FailureNotReopened({ failureId, state })
        ),
        Effect.zipRight(reopenLocked([failureId], actor)),
        Effect.zipRight(get(failureId)),
        atomically
      )
      yield* logReopened([failureId], actor)
      return reopened
    }),

    reopenAll: Effect.fn("BatchFailures.reopenAll")(function* (
      failureIds: ReadonlyArray<FailureId>,
      { actor }: { readonly actor: Actor }
    ) {
      const reopened = yield* lockAll(failureIds, REOPENABLE).pipe(
        Effect.tap((closed) => reopenLocked(closed, actor)),
        atomically
      )
      yield* logReopened(reopened, actor)
      return reopened
    })
  }
}

const logClosed = (failureIds: ReadonlyArray<FailureId>, { actor, state }: Closing) =>
  Effect.forEach(
    failureIds,
    (failureId) =>
      Effect.logInfo("Closed a failure").pipe(Effect.annotateLogs({ actor, "failure.id": failureId, state })),
    { discard: true }
  )

const logReopened = (failureIds: ReadonlyArray<FailureId>, actor: Actor) =>
  Effect.forEach(
    failureIds,
    (failureId) => Effect.logInfo("Reopened a failure").pipe(Effect.annotateLogs({ actor, "failure.id": failureId })),
    { discard: true }
  )
