/**
 * Closing failures without delivering their events, and taking that back. The events are kept as long as the failure is,
 * so it can be dealt with as if nothing had happened. What was replayed is published: that cannot be taken back.
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type { FailureId } from "../Batch.ts"
import type { Actor } from "../schema/audit.ts"
import { type BatchFailure, type FailureNotFound, FailureNotReopened, type FailureState } from "../schema/failures.ts"
import * as Locking from "./Locking.ts"

/** How a failure is closed: which state it comes to, why, and who says so. */
interface Closing {
  readonly state: "discarded" | "resolved"
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

  const closeLocked = (failureIds: ReadonlyArray<FailureId>, { actor, note, state }: Closing) =>
    sql`SELECT outbox.close_failures(${failureIds}::bigint[], ${state}, ${note}, ${actor})`

  const reopenLocked = (failureIds: ReadonlyArray<FailureId>, actor: Actor) =>
    sql`SELECT outbox.reopen_failures(${failureIds}::bigint[], ${actor})`

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
      close(failureId, { state: "discarded", note, actor })
    ),

    discardAll: Effect.fn("BatchFailures.discardAll")(
      (failureIds: ReadonlyArray<FailureId>, { actor, note }: Discard) =>
        closeAll(failureIds, { state: "discarded", note, actor })
    ),

    resolve: Effect.fn("BatchFailures.resolve")((failureId: FailureId, { actor, note }: Resolve) =>
      close(failureId, { state: "resolved", note, actor })
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
