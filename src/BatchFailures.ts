/**
 * What ClickHouse refused: operators read it, correct it, and publish it again or close it.
 *
 * Nothing gets lost on the way: a failure is open until somebody decides about it, and an open one is never deleted. A
 * replay publishes its events anew in the transaction that marks them replayed, so each is delivered once, however often
 * the button is pressed and whatever breaks. What is still bad comes back as a new failure that names this one. Every
 * change is written to the audit trail in its own transaction. Safe with any number of operators at once: each change
 * holds the failure's row. The HTTP API and the command line are doors to this service and can do nothing that it does
 * not.
 *
 * @since 0.1.0
 */
import * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { arrivals } from "./BatchFailures/arrivals.ts"
import { discard, discardAll, resolve } from "./BatchFailures/close.ts"
import { correct } from "./BatchFailures/correct.ts"
import type {
  Arrivals,
  BatchFailure,
  CorrectionInvalid,
  EventReplayed,
  FailedEvent,
  FailedEventNotFound,
  FailureClosed,
  FailureId,
  FailureNotFound,
  FailureNotReopened,
  Filter,
  Replayed
} from "./BatchFailures/model.ts"
import * as Read from "./BatchFailures/read.ts"
import * as Reopen from "./BatchFailures/reopen.ts"
import * as Replay from "./BatchFailures/replay.ts"
import * as Audit from "./schema/audit.ts"
import type { Page } from "./schema/columns.ts"
import { type NotMigrated, requireOutbox } from "./schema/compatibility.ts"

export { CORRECTABLE } from "./BatchFailures/correct.ts"
export {
  Arrivals,
  BatchFailure,
  CorrectionInvalid,
  CorrectionIssue,
  EventReplayed,
  FailedEvent,
  FailedEventNotFound,
  FailureClosed,
  FailureId,
  FailureNotFound,
  FailureNotReopened,
  FailureState,
  Filter,
  Replayed,
  toJson
} from "./BatchFailures/model.ts"
export { AuditEntry, type AuditFilter, auditToJson } from "./schema/audit.ts"
export type { Page } from "./schema/columns.ts"

/**
 * Who changes something is `actor`, a name for people to read in the audit trail.
 *
 * @since 0.1.0
 * @category tags
 */
export class BatchFailures extends Context.Tag("clickhouse-outbox/BatchFailures")<
  BatchFailures,
  {
    /** Newest first; `page.after` is the last id of the page before. */
    readonly list: (filter: Filter, page?: Page<FailureId>) => Effect.Effect<ReadonlyArray<BatchFailure>, SqlError>
    readonly get: (failureId: FailureId) => Effect.Effect<BatchFailure, FailureNotFound | SqlError>
    /** In the order in which they were published; `page.after` is the last event's `id` of the page before. */
    readonly events: (failureId: FailureId, page?: Page<number>) => Effect.Effect<ReadonlyArray<FailedEvent>, SqlError>
    /** One event of the failure; of several under one id the oldest that was not replayed yet. */
    readonly event: (
      failureId: FailureId,
      eventId: string
    ) => Effect.Effect<FailedEvent, FailedEventNotFound | SqlError>
    /**
     * Changes an event's type, time, context or version, and returns what it is now.
     *
     * What it becomes is checked as `publish` checks it, and by the event's Schema where one is registered as one of
     * `Event.Definitions`.
     *
     * @param correction a JSON object with one or more of {@link CORRECTABLE}; text, so that numbers keep their digits
     */
    readonly correct: (
      failureId: FailureId,
      eventId: string,
      correction: string,
      actor: string
    ) => Effect.Effect<
      FailedEvent,
      CorrectionInvalid | FailureNotFound | FailureClosed | FailedEventNotFound | EventReplayed | SqlError
    >
    /** Publishes every event of the failure that was not replayed yet, under the same ids. Closes it. */
    readonly replay: (
      failureId: FailureId,
      actor: string
    ) => Effect.Effect<Replayed, FailureNotFound | FailureClosed | SqlError>
    /** Publishes one event of the failure, and closes the failure if it was the last. */
    readonly replayEvent: (
      failureId: FailureId,
      eventId: string,
      actor: string
    ) => Effect.Effect<Replayed, FailureNotFound | FailureClosed | FailedEventNotFound | EventReplayed | SqlError>
    /** Replays every open failure that matches, in one transaction. */
    readonly replayAll: (filter: Filter, actor: string) => Effect.Effect<Replayed, SqlError>
    /** What became of the failures' events that were replayed, each counted once. */
    readonly arrivals: (failureIds: ReadonlyArray<FailureId>) => Effect.Effect<Arrivals, SqlError>
    /** Decides that what was not replayed is never delivered. */
    readonly discard: (
      failureId: FailureId,
      reason: string,
      actor: string
    ) => Effect.Effect<BatchFailure, FailureNotFound | FailureClosed | SqlError>
    /** Discards those that are open, in one transaction, and returns which. */
    readonly discardAll: (
      failureIds: ReadonlyArray<FailureId>,
      reason: string,
      actor: string
    ) => Effect.Effect<ReadonlyArray<FailureId>, SqlError>
    /** Writes down that somebody took care of it in another way. */
    readonly resolve: (
      failureId: FailureId,
      note: string,
      actor: string
    ) => Effect.Effect<BatchFailure, FailureNotFound | FailureClosed | SqlError>
    /** Takes back that it was discarded or resolved. What was replayed is published, and stays so. */
    readonly reopen: (
      failureId: FailureId,
      actor: string
    ) => Effect.Effect<BatchFailure, FailureNotFound | FailureNotReopened | SqlError>
    /** Reopens those that were discarded or resolved, in one transaction, and returns which. */
    readonly reopenAll: (
      failureIds: ReadonlyArray<FailureId>,
      actor: string
    ) => Effect.Effect<ReadonlyArray<FailureId>, SqlError>
    /** What operators changed, newest first; `page.after` is the last id of the page before. */
    readonly audit: (
      filter?: Audit.AuditFilter,
      page?: Page<number>
    ) => Effect.Effect<ReadonlyArray<Audit.AuditEntry>, SqlError>
  }
>() {}

/**
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<typeof BatchFailures.Service, NotMigrated | SqlError, SqlClient.SqlClient> =
  Effect.gen(function* () {
    const sql = (yield* SqlClient.SqlClient).withoutTransforms()
    yield* requireOutbox(sql)
    return {
      list: Read.list(sql),
      get: Read.get(sql),
      events: Read.events(sql),
      event: Read.event(sql),
      correct: correct(sql),
      replay: Replay.replay(sql),
      replayEvent: Replay.replayEvent(sql),
      replayAll: Replay.replayAll(sql),
      arrivals: arrivals(sql),
      discard: discard(sql),
      discardAll: discardAll(sql),
      resolve: resolve(sql),
      reopen: Reopen.reopen(sql),
      reopenAll: Reopen.reopenAll(sql),
      audit: (filter, page) => Audit.audit(sql, filter, page)
    }
  })

/**
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<BatchFailures, NotMigrated | SqlError, SqlClient.SqlClient> = Layer.effect(
  BatchFailures,
  make
)
