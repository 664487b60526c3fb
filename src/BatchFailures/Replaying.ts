/** Publishing again: the events go the way of every event, under the ids that they had. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import type { Fragment } from "@effect/sql/Statement"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Schema from "effect/Schema"
import { FailureId } from "../Batch.ts"
import type { EventId } from "../Event.ts"
import * as Metrics from "../Metrics.ts"
import { type Actor, insertAudit } from "../schema/audit.ts"
import { rowOf, rowsOf } from "../schema/columns.ts"
import { IS_NEW_TIMELINE } from "../schema/compatibility.ts"
import { CONTENT_COLUMNS } from "../schema/events.ts"
import { type Filter, Replayed } from "../schema/failures.ts"
import * as Locking from "./Locking.ts"
import { matches } from "./Reading.ts"

const Locked = Schema.Struct({ id: FailureId })

export const make = (sql: SqlClient.SqlClient) => {
  const { atomically, findEvent, lockOpen } = Locking.make(sql)

  /**
   * One statement marks the events and publishes them, so that neither happens without the other: pressed twice, or
   * broken off, each event is published once. The failures are locked. The columns are written as they are: they
   * were checked when they were published or corrected.
   */
  const publishAgain = (
    failureIds: ReadonlyArray<FailureId>,
    which: Fragment,
    actor: Actor
  ): Effect.Effect<Replayed, SqlError> =>
    sql`
      WITH replayed AS (
        UPDATE outbox.batch_failure_event SET replayed_at = clock_timestamp()
        WHERE failure_id = ANY (${failureIds}::bigint[]) AND replayed_at IS NULL AND ${which}
        RETURNING
          failure_id, id, ${sql.literal(CONTENT_COLUMNS)}
      ),
      published AS (
        INSERT INTO outbox.event (${sql.literal(CONTENT_COLUMNS)}, slot)
        SELECT ${sql.literal(CONTENT_COLUMNS)}, (SELECT outbox.current_slot())
        FROM replayed
        ORDER BY failure_id, id
      ),
      doubted AS (
        -- A commit that was lost may have replayed them already: ClickHouse is asked for what is sealed up to here. Of a new
        -- timeline the sealer may not have told yet.
        SELECT outbox.doubt_until_now() AS before
        FROM outbox.sealer
        WHERE ${sql.literal(IS_NEW_TIMELINE)} OR EXISTS (
          SELECT
          FROM replayed JOIN outbox.batch_failure AS failure ON failure.id = replayed.failure_id
          WHERE failure.last_seen_at < doubted_at
        )
      ),
      replayed_failure AS (
        SELECT failure_id, count(*) AS events, min(event_id::text)::uuid AS event_id FROM replayed GROUP BY failure_id
      ),
      closed AS (
        UPDATE outbox.batch_failure SET state = 'replayed', closed_at = clock_timestamp()
        FROM replayed_failure
        WHERE batch_failure.id = replayed_failure.failure_id
          -- This statement's own changes are not in its snapshot.
          AND replayed_failure.events = (
            SELECT count(*)
            FROM outbox.batch_failure_event AS event
            WHERE event.failure_id = batch_failure.id AND event.replayed_at IS NULL
          )
        RETURNING batch_failure.id
      ),
      audited AS (
        ${insertAudit(sql, {
          actor,
          action: "replay",
          failureId: sql`replayed_failure.failure_id`,
          eventId: sql`CASE WHEN replayed_failure.events = 1 THEN replayed_failure.event_id END`,
          before: sql`jsonb_build_object('state', 'open')`,
          after: sql`jsonb_build_object(
            'state', CASE WHEN closed.id IS NULL THEN 'open' ELSE 'replayed' END,
            'replayed_events', replayed_failure.events
          )`,
          from: sql`replayed_failure LEFT JOIN closed ON closed.id = replayed_failure.failure_id`
        })}
      )
      -- A SELECT above is run only because it is asked for here.
      SELECT
        coalesce(array_agg(failure_id::float8 ORDER BY failure_id), '{}') AS failures,
        coalesce(sum(events), 0)::integer AS events,
        (SELECT count(before) FROM doubted) AS doubted
      FROM replayed_failure
    `.pipe(rowOf(Replayed))

  const report = (actor: Actor) => (replayed: Replayed) =>
    Effect.logInfo("Replayed refused events").pipe(
      Effect.annotateLogs({ actor, "failure.count": replayed.failures.length, "event.count": replayed.events }),
      Effect.zipRight(Metric.incrementBy(Metrics.eventsReplayed, replayed.events))
    )

  return {
    replay: Effect.fn("BatchFailures.replay")(function* (failureId: FailureId, { actor }: { readonly actor: Actor }) {
      yield* Effect.annotateCurrentSpan("failure.id", failureId)
      return yield* lockOpen(failureId).pipe(
        Effect.zipRight(publishAgain([failureId], sql`true`, actor)),
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
        Effect.flatMap((id) => publishAgain([failureId], sql`id = ${id}`, actor)),
        atomically,
        Effect.tap(report(actor))
      )
    }),

    replayAll: Effect.fn("BatchFailures.replayAll")((filter: Filter, { actor }: { readonly actor: Actor }) =>
      // Locked in the order of their ids, so that two who replay at once do not wait for each other; who comes second
      // finds under the lock that they are not open any more.
      sql`
        SELECT failure.id::float8 AS id
        FROM outbox.batch_failure AS failure
        WHERE failure.state = 'open' AND ${matches(sql, filter)}
        ORDER BY failure.id
        FOR UPDATE
      `.pipe(
        rowsOf(Locked),
        Effect.flatMap((failures) =>
          publishAgain(
            failures.map(({ id }) => id),
            sql`true`,
            actor
          )
        ),
        atomically,
        Effect.tap(report(actor))
      )
    )
  }
}
