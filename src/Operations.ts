/**
 * What operators see and do besides failures: how far behind the outbox is, its batches and incidents, where an event
 * is, and a pause on all relays.
 *
 * Reading changes nothing and waits for nobody. A pause is a row in Postgres, so it holds every relay of the outbox, also
 * those that start later: no batch is taken until somebody resumes, a batch in flight is finished, and publishing goes
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
import type { EventId } from "./Event.ts"
import type { DatabaseState, RelayState } from "./internal/databaseState.ts"
import * as Batches from "./Operations/batches.ts"
import { incidents } from "./Operations/incidents.ts"
import type {
  AlreadyPaused,
  BatchNotFound,
  BatchStatus,
  EventNotFound,
  Incident,
  NotPaused,
  Whereabouts
} from "./Operations/model.ts"
import { type OverviewRange, overview } from "./Operations/overview.ts"
import type { Overview } from "./Operations/overviewModel.ts"
import * as Pause from "./Operations/pause.ts"
import { postgresState } from "./Operations/postgresState.ts"
import { relays } from "./Operations/relays.ts"
import { where } from "./Operations/where.ts"
import type { ForeignCluster, NotMigrated, OutboxStatus, RelayPause } from "./OutboxStore.ts"
import type { Page } from "./schema/columns.ts"
import { requireOwnOutbox } from "./schema/compatibility.ts"
import { status } from "./schema/counts.ts"

export { DatabaseState, RelayLease, RelayState } from "./internal/databaseState.ts"
export type { BatchFilter } from "./Operations/batches.ts"
export {
  AlreadyPaused,
  BatchNotFound,
  BatchState,
  BatchStatus,
  EventNotFound,
  Incident,
  NotPaused,
  Place,
  Whereabouts
} from "./Operations/model.ts"
export type { OverviewRange } from "./Operations/overview.ts"
export { Overview, OverviewBucket, OverviewNow } from "./Operations/overviewModel.ts"

/**
 * @since 0.1.0
 * @category tags
 */
export class Operations extends Context.Tag("clickhouse-outbox/Operations")<
  Operations,
  {
    /** What is undelivered, and in which state. */
    readonly status: Effect.Effect<OutboxStatus, SqlError>
    /** How the outbox fares, now and over time, by the manifest: true for all relays, and outlives each. */
    readonly overview: (range?: OverviewRange) => Effect.Effect<Overview, SqlError>
    /** Those that are connected, or have delivered something lately. */
    readonly relays: Effect.Effect<ReadonlyArray<RelayState>, SqlError>
    /** Whether Postgres answers and has this release's outbox. */
    readonly postgres: Effect.Effect<DatabaseState>
    /** Newest first; `page.after` is the last id of the page before. */
    readonly batches: (
      filter: Batches.BatchFilter,
      page?: Page<number>
    ) => Effect.Effect<ReadonlyArray<BatchStatus>, SqlError>
    readonly batch: (batchId: number) => Effect.Effect<BatchStatus, BatchNotFound | SqlError>
    /** Where an event is. Reads the whole outbox: for people who look for one event. */
    readonly where: (eventId: EventId) => Effect.Effect<Whereabouts, EventNotFound | SqlError>
    /** Newest first; `page.after` is the last id of the page before. */
    readonly incidents: (
      filter?: { readonly state?: Incident["state"] | undefined },
      page?: Page<number>
    ) => Effect.Effect<ReadonlyArray<Incident>, SqlError>
    readonly relayPause: Effect.Effect<Option.Option<RelayPause>, SqlError>
    /** No relay takes a batch until {@link resume}. Those in flight are finished. */
    readonly pause: (reason: string, actor: string) => Effect.Effect<RelayPause, AlreadyPaused | SqlError>
    /** Returns the pause that has ended. */
    readonly resume: (actor: string) => Effect.Effect<RelayPause, NotPaused | SqlError>
  }
>() {}

/**
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<
  typeof Operations.Service,
  ForeignCluster | NotMigrated | SqlError,
  SqlClient.SqlClient
> = Effect.gen(function* () {
  const sql = (yield* SqlClient.SqlClient).withoutTransforms()
  yield* requireOwnOutbox(sql)
  return {
    status: status(sql),
    overview: overview(sql),
    relays: relays(sql),
    postgres: postgresState(sql),
    batches: Batches.batches(sql),
    batch: Batches.batch(sql),
    where: where(sql),
    incidents: incidents(sql),
    relayPause: Pause.relayPause(sql),
    pause: Pause.pause(sql),
    resume: Pause.resume(sql)
  }
})

/**
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<Operations, ForeignCluster | NotMigrated | SqlError, SqlClient.SqlClient> =
  Layer.effect(Operations, make)
