/**
 * What operators see and do besides failures: how far behind the outbox is, its batches and incidents, where an event
 * is, and a pause on all relays.
 *
 * Reading changes nothing and waits for nobody. A pause is a row in Postgres, so it stops every relay of the outbox, also
 * those that start later: no batch is leased until somebody resumes, a batch in flight is finished, and publishing goes
 * on. The HTTP API and the command line are doors to this service.
 *
 * @since 0.1.0
 */
import * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import type { BatchId } from "./Batch.ts"
import type { EventId } from "./Event.ts"
import * as Overview from "./Operations/Overview.ts"
import * as Pausing from "./Operations/Pausing.ts"
import * as Reading from "./Operations/Reading.ts"
import * as Systems from "./Operations/Systems.ts"
import { type Actor, type AuditEntry, type AuditFilter, readAudit } from "./schema/audit.ts"
import type { Page } from "./schema/columns.ts"
import {
  type ForeignDatabase,
  type NotMigrated,
  requireOwnOutbox,
  type UnsuitableEncoding
} from "./schema/compatibility.ts"
import { status } from "./schema/counts.ts"
import type { BatchNotFound, BatchStatus, EventNotFound, Incident, Whereabouts } from "./schema/deliveries.ts"
import type * as OverviewModel from "./schema/overview.ts"
import type { OutboxStatus, RelayPause } from "./schema/status.ts"
import type { AlreadyPaused, DatabaseState, NotPaused, RelayState } from "./schema/systems.ts"

export { DEFAULT_MINUTES, type OverviewRange } from "./Operations/Overview.ts"
export type { BatchFilter, IncidentFilter } from "./Operations/Reading.ts"
export { Actor, AuditEntry, type AuditFilter, auditToJson } from "./schema/audit.ts"
export {
  BatchNotFound,
  BatchState,
  BatchStatus,
  EventNotFound,
  Incident,
  Place,
  Whereabouts
} from "./schema/deliveries.ts"
export { Overview, OverviewBucket, OverviewNow } from "./schema/overview.ts"
export { AlreadyPaused, DatabaseState, NotPaused, RelayLease, RelayState } from "./schema/systems.ts"

/**
 * The outbox, its batches and its relays, as operators see them. `actor` is who pauses or resumes.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { Operations } from "clickhouse-outbox"
 *
 * // Lets no relay take a batch while ClickHouse is maintained, and says what waits for its end.
 * const maintain = <A, E, R>(work: Effect.Effect<A, E, R>) =>
 *   Effect.gen(function* () {
 *     const operations = yield* Operations.Operations
 *     const actor = Operations.Actor.make("ada@example.com")
 *     yield* operations.pause({ reason: "ClickHouse is upgraded", actor })
 *     yield* work
 *     const { backlog } = yield* operations.status
 *     yield* Effect.log(`${backlog} events wait`)
 *     yield* operations.resume({ actor })
 *   })
 * ```
 * @since 0.1.0
 * @category tags
 */
export class Operations extends Context.Tag("clickhouse-outbox/Operations")<
  Operations,
  {
    /** What is undelivered, and in which state. */
    readonly status: Effect.Effect<OutboxStatus, SqlError>
    /** How the outbox is doing, now and over time, by the manifest: true for all relays, and outlives each. */
    readonly overview: (range?: Overview.OverviewRange) => Effect.Effect<OverviewModel.Overview, SqlError>
    /** Those that are connected, or have delivered something lately. */
    readonly relays: Effect.Effect<ReadonlyArray<RelayState>, SqlError>
    /** Whether Postgres answers and has this release's outbox. */
    readonly postgres: Effect.Effect<DatabaseState>
    /** Newest first; `page.after` is the last id of the page before. */
    readonly batches: (
      filter: Reading.BatchFilter,
      page?: Page<BatchId>
    ) => Effect.Effect<ReadonlyArray<BatchStatus>, SqlError>
    readonly batch: (batchId: BatchId) => Effect.Effect<BatchStatus, BatchNotFound | SqlError>
    /** Where an event is. Reads the whole outbox: for people who look for one event. */
    readonly where: (eventId: EventId) => Effect.Effect<Whereabouts, EventNotFound | SqlError>
    /** Newest first; `page.after` is the last id of the page before. */
    readonly incidents: (
      filter?: Reading.IncidentFilter,
      page?: Page<number>
    ) => Effect.Effect<ReadonlyArray<Incident>, SqlError>
    readonly relayPause: Effect.Effect<Option.Option<RelayPause>, SqlError>
    /** No relay leases a batch until {@link resume}. Those in flight are finished. */
    readonly pause: (why: {
      readonly reason: string
      readonly actor: Actor
    }) => Effect.Effect<RelayPause, AlreadyPaused | SqlError>
    /** Returns the pause that has ended. */
    readonly resume: (by: { readonly actor: Actor }) => Effect.Effect<RelayPause, NotPaused | SqlError>
    /** What operators changed, failures and pauses alike, newest first; `page.after` is the last id of the page before. */
    readonly audit: (filter?: AuditFilter, page?: Page<number>) => Effect.Effect<ReadonlyArray<AuditEntry>, SqlError>
  }
>() {}

/**
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<
  typeof Operations.Service,
  ForeignDatabase | NotMigrated | SqlError | UnsuitableEncoding,
  SqlClient.SqlClient
> = Effect.gen(function* () {
  const sql = (yield* SqlClient.SqlClient).withoutTransforms()
  yield* requireOwnOutbox(sql)
  return {
    status: Effect.withSpan(status(sql), "Operations.status"),
    ...Overview.make(sql),
    ...Systems.make(sql),
    ...Reading.make(sql),
    ...Pausing.make(sql),
    audit: Effect.fn("Operations.audit")((filter: AuditFilter = {}, page?: Page<number>) =>
      readAudit(sql, filter, page)
    )
  }
})

/**
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<
  Operations,
  ForeignDatabase | NotMigrated | SqlError | UnsuitableEncoding,
  SqlClient.SqlClient
> = Layer.effect(Operations, make)
