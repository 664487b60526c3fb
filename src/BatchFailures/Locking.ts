/**
 * Changing a failure: a transaction that holds the failure's row from its first statement on. The statements after it
 * have snapshots of their own, so they see what whoever held the row before has committed.
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { FailureId } from "../Batch.ts"
import type { EventId } from "../Event.ts"
import { firstRowOf, rowsOf } from "../schema/columns.ts"
import { EventReplayed, FailedEventNotFound, FailureClosed, FailureNotFound, FailureState } from "../schema/failures.ts"
import { atomically } from "../Transaction.ts"

const State = Schema.Struct({ state: FailureState })
const Id = Schema.Struct({ id: FailureId })

/** The id is a bigint as text. */
const EventRow = Schema.Struct({ id: Schema.String, replayed: Schema.Boolean })

export const make = (sql: SqlClient.SqlClient) => {
  /** What state the failure is in, and stays in until the transaction ends. */
  const lock = (failureId: FailureId): Effect.Effect<FailureState, FailureNotFound | SqlError> =>
    sql`SELECT state FROM outbox.lock_failures(ARRAY[${failureId}::bigint])`.pipe(
      firstRowOf(State),
      Effect.flatMap(
        Option.match({
          onNone: () => new FailureNotFound({ failureId }),
          onSome: ({ state }) => Effect.succeed(state)
        })
      )
    )

  return {
    /** Whole or not at all. At a stricter isolation the snapshot would be older than the lock. */
    atomically: atomically(sql, "SET TRANSACTION ISOLATION LEVEL READ COMMITTED READ WRITE"),
    lock,

    /** Fails unless the failure is open, and keeps it so until the transaction ends. */
    lockOpen: (failureId: FailureId): Effect.Effect<void, FailureNotFound | FailureClosed | SqlError> =>
      Effect.flatMap(lock(failureId), (state) =>
        state === "open" ? Effect.void : new FailureClosed({ failureId, state })
      ),

    /**
     * Those of the failures that are in one of these states, and stay in it until the transaction ends.
     */
    lockAll: (
      failureIds: ReadonlyArray<FailureId>,
      states: ReadonlyArray<FailureState>
    ): Effect.Effect<ReadonlyArray<FailureId>, SqlError> =>
      sql`
        SELECT id::float8 AS id
        FROM outbox.lock_failures(${failureIds}::bigint[])
        WHERE state = ANY (${states}::text[])
      `.pipe(
        rowsOf(Id),
        Effect.map((rows) => rows.map(({ id }) => id))
      ),

    /**
     * The row of an event that was not replayed yet: the oldest one, should several have been published under the id.
     * The failure is locked, so nobody else changes it.
     */
    findEvent: (
      failureId: FailureId,
      eventId: EventId
    ): Effect.Effect<string, FailedEventNotFound | EventReplayed | SqlError> =>
      sql`
        SELECT id::text, replayed_at IS NOT NULL AS replayed
        FROM outbox.batch_failure_event
        WHERE failure_id = ${failureId} AND event_id = ${eventId}::uuid
        ORDER BY replayed_at NULLS FIRST, id
        LIMIT 1
      `.pipe(
        firstRowOf(EventRow),
        Effect.flatMap(
          Option.match({ onNone: () => new FailedEventNotFound({ failureId, eventId }), onSome: Effect.succeed })
        ),
        Effect.filterOrFail(
          ({ replayed }) => !replayed,
          () => new EventReplayed({ failureId, eventId })
        ),
        Effect.map(({ id }) => id)
      )
  }
}
