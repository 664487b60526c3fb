/** Publishing again: the events go the way of every event, under the ids that they had. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import type { Fragment } from "@effect/sql/Statement"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Schema from "effect/Schema"
import * as Metrics from "../Metrics.ts"
import { IS_NEW_TIMELINE } from "../schema/compatibility.ts"
import { CONTENT_COLUMNS } from "../schema/events.ts"
import { change, findEvent, lockOpen } from "./lock.ts"
import {
  type EventReplayed,
  type FailedEventNotFound,
  type FailureClosed,
  type FailureId,
  type FailureNotFound,
  type Filter,
  Replayed
} from "./model.ts"
import { matches } from "./read.ts"

export const replay =
  (sql: SqlClient.SqlClient) =>
  (failureId: FailureId, actor: string): Effect.Effect<Replayed, FailureNotFound | FailureClosed | SqlError> =>
    lockOpen(sql, failureId).pipe(
      Effect.zipRight(publishAgain(sql, [failureId], sql`true`, actor)),
      change(sql),
      Effect.tap(report(actor)),
      Effect.withSpan("BatchFailures.replay", { attributes: { "failure.id": failureId } })
    )

export const replayEvent =
  (sql: SqlClient.SqlClient) =>
  (
    failureId: FailureId,
    eventId: string,
    actor: string
  ): Effect.Effect<Replayed, FailureNotFound | FailureClosed | FailedEventNotFound | EventReplayed | SqlError> =>
    lockOpen(sql, failureId).pipe(
      Effect.zipRight(findEvent(sql, failureId, eventId)),
      Effect.flatMap((id) => publishAgain(sql, [failureId], sql`id = ${id}`, actor)),
      change(sql),
      Effect.tap(report(actor)),
      Effect.withSpan("BatchFailures.replayEvent", { attributes: { "failure.id": failureId, "event.id": eventId } })
    )

export const replayAll =
  (sql: SqlClient.SqlClient) =>
  (filter: Filter, actor: string): Effect.Effect<Replayed, SqlError> =>
    // Locked in the order of their ids, so that two who replay at once do not wait for each other; who comes second
    // finds under the lock that they are not open any more.
    sql<{ id: string }>`
      SELECT failure.id::text
      FROM outbox.batch_failure AS failure
      WHERE failure.state = 'open' AND ${matches(sql, filter)}
      ORDER BY failure.id
      FOR UPDATE
    `.pipe(
      Effect.flatMap((failures) =>
        publishAgain(
          sql,
          failures.map(({ id }) => id),
          sql`true`,
          actor
        )
      ),
      change(sql),
      Effect.tap(report(actor)),
      Effect.withSpan("BatchFailures.replayAll")
    )

const report = (actor: string) => (replayed: Replayed) =>
  Effect.logInfo("Replayed refused events").pipe(
    Effect.annotateLogs({ actor, "failure.count": replayed.failures.length, "event.count": replayed.events }),
    Effect.zipRight(Metric.incrementBy(Metrics.eventsReplayed, replayed.events))
  )

/**
 * One statement marks the events and publishes them, so that neither happens without the other: pressed twice, or
 * broken off, each event is published once. The failures are locked. The columns are written as they are: they
 * were checked when they were published or corrected.
 */
const publishAgain = (
  sql: SqlClient.SqlClient,
  failureIds: ReadonlyArray<string | number>,
  which: Fragment,
  actor: string
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
      INSERT INTO outbox.audit (actor, action, failure_id, event_id, before, after)
      SELECT
        ${actor}, 'replay', replayed_failure.failure_id,
        CASE WHEN replayed_failure.events = 1 THEN replayed_failure.event_id END,
        jsonb_build_object('state', 'open'),
        jsonb_build_object(
          'state', CASE WHEN closed.id IS NULL THEN 'open' ELSE 'replayed' END,
          'replayed_events', replayed_failure.events
        )
      FROM replayed_failure
      LEFT JOIN closed ON closed.id = replayed_failure.failure_id
    )
    -- A SELECT above is run only because it is asked for here.
    SELECT
      coalesce(array_agg(failure_id::float8 ORDER BY failure_id), '{}') AS failures,
      coalesce(sum(events), 0)::integer AS events,
      (SELECT count(before) FROM doubted) AS doubted
    FROM replayed_failure
  `.pipe(
    Effect.flatMap((rows) => Effect.orDie(Arr.head(rows))),
    Effect.flatMap((row) => Effect.orDie(Schema.decodeUnknown(Replayed)(row)))
  )
