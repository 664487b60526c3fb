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
import type { FailureId } from "./Batch.ts"
import * as Closing from "./BatchFailures/Closing.ts"
import * as Correcting from "./BatchFailures/Correcting.ts"
import * as Reading from "./BatchFailures/Reading.ts"
import * as Replaying from "./BatchFailures/Replaying.ts"
import type { EventId } from "./Event.ts"
import { type Actor, type AuditEntry, readAudit } from "./schema/audit.ts"
import type { Page } from "./schema/columns.ts"
import { type NotMigrated, requireOutbox } from "./schema/compatibility.ts"
import type {
  Arrivals,
  BatchFailure,
  CorrectionInvalid,
  EventReplayed,
  FailedEvent,
  FailedEventNotFound,
  FailureClosed,
  FailureNotFound,
  FailureNotReopened,
  Filter,
  Replayed
} from "./schema/failures.ts"

export { FailureId } from "./Batch.ts"
export { Actor, AuditEntry, auditToJson } from "./schema/audit.ts"
export type { Page } from "./schema/columns.ts"
export {
  Arrivals,
  BatchFailure,
  CORRECTABLE,
  CorrectionInvalid,
  CorrectionIssue,
  EventReplayed,
  FailedEvent,
  FailedEventNotFound,
  FailureClosed,
  FailureNotFound,
  FailureNotReopened,
  FailureState,
  Filter,
  Replayed,
  toJson
} from "./schema/failures.ts"

/**
 * Failures, and what is done about them. `actor` is who does it, for people to read in the audit trail.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { BatchFailures, Event } from "clickhouse-outbox"
 *
 * // Corrects a price that ClickHouse refused, and publishes the event again.
 * const mend = Effect.fn(function* (failureId: BatchFailures.FailureId, eventId: Event.EventId) {
 *   const failures = yield* BatchFailures.BatchFailures
 *   const actor = BatchFailures.Actor.make("ada@example.com")
 *   const correction = JSON.stringify({ event_context: { price: 12.5 } })
 *   yield* failures.correct(failureId, { eventId, correction, actor })
 *   return yield* failures.replayEvent(failureId, { eventId, actor })
 * })
 *
 * // Decides that none of the failures of a test are delivered.
 * const discardTests = Effect.gen(function* () {
 *   const failures = yield* BatchFailures.BatchFailures
 *   const open = yield* failures.list({ state: "open", eventType: "test" })
 *   return yield* failures.discardAll(
 *     open.map(({ id }) => id),
 *     { note: "a test", actor: BatchFailures.Actor.make("ada@example.com") }
 *   )
 * })
 * ```
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
      eventId: EventId
    ) => Effect.Effect<FailedEvent, FailedEventNotFound | SqlError>
    /**
     * Changes an event's type, time, context or version, and returns what it is now. `correction` is a JSON object with
     * one or more of {@link CORRECTABLE}, as text, so that numbers keep their digits.
     *
     * What it becomes is checked as `publish` checks it, and by the event's Schema where one is registered as one of
     * `Event.Definitions`.
     */
    readonly correct: (
      failureId: FailureId,
      change: { readonly eventId: EventId; readonly correction: string; readonly actor: Actor }
    ) => Effect.Effect<
      FailedEvent,
      CorrectionInvalid | FailureNotFound | FailureClosed | FailedEventNotFound | EventReplayed | SqlError
    >
    /** Publishes every event of the failure that was not replayed yet, under the same ids. Closes it. */
    readonly replay: (
      failureId: FailureId,
      by: { readonly actor: Actor }
    ) => Effect.Effect<Replayed, FailureNotFound | FailureClosed | SqlError>
    /** Publishes one event of the failure, and closes the failure if it was the last. */
    readonly replayEvent: (
      failureId: FailureId,
      which: { readonly eventId: EventId; readonly actor: Actor }
    ) => Effect.Effect<Replayed, FailureNotFound | FailureClosed | FailedEventNotFound | EventReplayed | SqlError>
    /** Replays every open failure that matches, in one transaction. */
    readonly replayAll: (filter: Filter, by: { readonly actor: Actor }) => Effect.Effect<Replayed, SqlError>
    /** What became of the failures' events that were replayed, each counted once. */
    readonly arrivals: (failureIds: ReadonlyArray<FailureId>) => Effect.Effect<Arrivals, SqlError>
    /** Decides that what was not replayed is never delivered. */
    readonly discard: (
      failureId: FailureId,
      why: { readonly note: string; readonly actor: Actor }
    ) => Effect.Effect<BatchFailure, FailureNotFound | FailureClosed | SqlError>
    /** Discards those that are open, in one transaction, and returns which. */
    readonly discardAll: (
      failureIds: ReadonlyArray<FailureId>,
      why: { readonly note: string; readonly actor: Actor }
    ) => Effect.Effect<ReadonlyArray<FailureId>, SqlError>
    /** Writes down that somebody took care of it in another way. */
    readonly resolve: (
      failureId: FailureId,
      how: { readonly note: string; readonly actor: Actor }
    ) => Effect.Effect<BatchFailure, FailureNotFound | FailureClosed | SqlError>
    /** Takes back that it was discarded or resolved. What was replayed is published, and stays so. */
    readonly reopen: (
      failureId: FailureId,
      by: { readonly actor: Actor }
    ) => Effect.Effect<BatchFailure, FailureNotFound | FailureNotReopened | SqlError>
    /** Reopens those that were discarded or resolved, in one transaction, and returns which. */
    readonly reopenAll: (
      failureIds: ReadonlyArray<FailureId>,
      by: { readonly actor: Actor }
    ) => Effect.Effect<ReadonlyArray<FailureId>, SqlError>
    /** What operators changed about the failure, newest first; `page.after` is the last id of the page before. */
    readonly audit: (failureId: FailureId, page?: Page<number>) => Effect.Effect<ReadonlyArray<AuditEntry>, SqlError>
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
    const reading = Reading.make(sql)
    return {
      ...reading,
      ...Correcting.make(sql),
      ...Replaying.make(sql),
      ...Closing.make(sql, reading.get),
      audit: Effect.fn("BatchFailures.audit")((failureId: FailureId, page?: Page<number>) =>
        readAudit(sql, { failureId }, page)
      )
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
