/** Publishing again: the events go the way of every event, under the ids that they had. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Schema from "effect/Schema"
import { FailureId } from "../Batch.ts"
import type { EventId } from "../Event.ts"
import * as Metrics from "../Metrics.ts"
import type { Actor } from "../schema/audit.ts"
import { rowOf, rowsOf } from "../schema/columns.ts"
import { type Filter, Replayed } from "../schema/failures.ts"
import * as Locking from "./Locking.ts"
import { matches } from "./Reading.ts"

const Open = Schema.Struct({ id: FailureId })

export const make = (sql: SqlClient.SqlClient) => {
  const { atomically, findEvent, lockAll, lockOpen } = Locking.make(sql)

  /** The failures are locked. Without a row, all events that were not replayed yet. */
  const publishAgain = (
    failureIds: ReadonlyArray<FailureId>,
    { actor, rowId }: { readonly actor: Actor; readonly rowId?: string }
  ): Effect.Effect<Replayed, SqlError> =>
    rowOf(Replayed)(sql`
      SELECT failures::float8[] AS failures, events::float8 AS events
      FROM outbox.replay_events(${failureIds}::bigint[], ${rowId ?? null}::bigint, ${actor})
    `)

  const report = (actor: Actor) => (replayed: Replayed) =>
    Effect.logInfo("Replayed refused events").pipe(
      Effect.annotateLogs({ actor, "failure.count": replayed.failures.length, "event.count": replayed.events }),
      Effect.zipRight(Metric.incrementBy(Metrics.eventsReplayed, replayed.events))
    )

  return {
    replay: Effect.fn("BatchFailures.replay")(function* (failureId: FailureId, { actor }: { readonly actor: Actor }) {
      yield* Effect.annotateCurrentSpan("failure.id", failureId)
      return yield* lockOpen(failureId).pipe(
        Effect.zipRight(publishAgain([failureId], { actor })),
        atomically,
        Effect.tap(report(actor))
      )
    }),

    replayEvent: Effect.fn("BatchFailures.replayEvent")(function* (
      failureId: FailureId,
      { actor, eventId }: { readonly eventId: EventId; readonly actor: Actor }
    ) {
      yield* Effect.annotateCurrentSpan({ "failure.id": failureId, "event.id": eventId })
      return yield* lockOpen(failureId).pipe(
        Effect.zipRight(findEvent(failureId, eventId)),
        Effect.flatMap((rowId) => publishAgain([failureId], { actor, rowId })),
        atomically,
        Effect.tap(report(actor))
      )
    }),

    replayAll: Effect.fn("BatchFailures.replayAll")((filter: Filter, { actor }: { readonly actor: Actor }) =>
      // Who comes second finds under the lock that they are not open any more.
      sql`
        SELECT failure.id::float8 AS id
        FROM outbox.batch_failure AS failure
        WHERE failure.state = 'open' AND ${matches(sql, filter)}
      `.pipe(
        rowsOf(Open),
        Effect.flatMap((failures) =>
          lockAll(
            failures.map(({ id }) => id),
            ["open"]
          )
        ),
        Effect.flatMap((failureIds) => publishAgain(failureIds, { actor })),
        atomically,
        Effect.tap(report(actor))
      )
    )
  }
}
