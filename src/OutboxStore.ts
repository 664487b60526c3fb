/**
 * The outbox in Postgres: seals committed events into batches, leases batches to workers, reads them as bytes and
 * records what became of them.
 *
 * Nothing is skipped: a window holds every row that was committed between two snapshots, whatever ids and whichever
 * order its transactions had. Nothing is marked: an event costs no write after it was published, a batch costs three
 * small ones. Safe with any number of relays, none of which needs to know of another: one seals at a time, a batch has
 * one lease at a time, and every change under a lease checks that it is still held. All times are Postgres' own, so
 * that a relay's wrong clock harms nobody.
 *
 * @since 0.1.0
 */
import * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import type * as ConfigError from "effect/ConfigError"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import type * as Stream from "effect/Stream"
import type { Batch, BatchId, FailureId, Lease, Repair } from "./Batch.ts"
import * as Config from "./Config.ts"
import type { EventId } from "./Event.ts"
import { type Housekeeping, housekeep } from "./OutboxStore/housekeep.ts"
import * as Incidents from "./OutboxStore/incident.ts"
import * as Isolating from "./OutboxStore/isolate.ts"
import * as Leases from "./OutboxStore/lease.ts"
import type {
  BatchChanged,
  LeaseLost,
  Position,
  Reclaimed,
  Refusals,
  Sealed,
  SinceFirstAttempt
} from "./OutboxStore/model.ts"
import * as Reading from "./OutboxStore/read.ts"
import { republish } from "./OutboxStore/republish.ts"
import * as Sealing from "./OutboxStore/seal.ts"
import { type Connections, Postgres } from "./Postgres.ts"
import type { ForeignCluster, NotMigrated } from "./schema/compatibility.ts"
import { checkCluster } from "./schema/compatibility.ts"
import { observe } from "./schema/observe.ts"
import type { Observation, Outstanding } from "./schema/status.ts"
import * as Status from "./schema/status.ts"

export {
  BatchChanged,
  LeaseLost,
  type Position,
  type Reclaimed,
  type Refusals,
  Sealed,
  type SinceFirstAttempt
} from "./OutboxStore/model.ts"
/** @internal */
export { retainedEventIds } from "./OutboxStore/read.ts"
export { type Restamped, restamp } from "./OutboxStore/restamp.ts"
export { ForeignCluster, NotMigrated } from "./schema/compatibility.ts"
export { Observation, OutboxStatus, Outstanding, RelayPause } from "./schema/status.ts"

/**
 * @since 0.1.0
 * @category tags
 */
export class OutboxStore extends Context.Tag("clickhouse-outbox/OutboxStore")<
  OutboxStore,
  {
    /** Reads two sequences and touches no table. */
    readonly position: Effect.Effect<Position, SqlError>
    /**
     * Cuts the next batch if one is due: full, or its oldest event has waited `linger`. With `flush` whatever there is
     * is due.
     */
    readonly seal: (options?: { readonly flush: boolean }) => Effect.Effect<Sealed, SqlError>
    /** Takes the oldest batch that may be tried now; none while relays are paused. `holder` is for people to read. */
    readonly lease: (holder: string) => Effect.Effect<Option.Option<Lease>, SqlError>
    /** Keeps the lease for another term. */
    readonly renew: (lease: Lease) => Effect.Effect<void, LeaseLost | SqlError>
    /** What has happened since the batch was first tried, this attempt included. */
    readonly sinceFirstAttempt: (lease: Lease) => Effect.Effect<SinceFirstAttempt, SqlError>
    /** The batch as TabSeparated rows of `event_log`: the same bytes each time. Fails rather than end early. */
    readonly read: (batch: Batch) => Stream.Stream<Uint8Array, SqlError | BatchChanged>
    /** Those of the batch's events that a repair sends again, in the same format. */
    readonly readRepair: (batch: Batch, repair: Repair) => Stream.Stream<Uint8Array, SqlError | BatchChanged>
    /** The ids of the batch's events. */
    readonly eventIds: (batch: Batch) => Effect.Effect<ReadonlyArray<EventId>, SqlError | BatchChanged>
    /**
     * The ids of those of its events that the outbox still has. Rows of a batch that was delivered may have been deleted,
     * alone or with their slot, or published again.
     */
    readonly retainedEventIds: (batch: Batch) => Effect.Effect<ReadonlyArray<EventId>, SqlError>
    /** Stores, before anything is sent, which events are to be sent again and under which new token. */
    readonly planRepair: (
      lease: Lease,
      missing: readonly [EventId, ...ReadonlyArray<EventId>]
    ) => Effect.Effect<Repair, LeaseLost | SqlError>
    /**
     * Everything in the batch is in ClickHouse. Closes the incident that it was the last of. Returns how long the oldest
     * of its events was under way.
     */
    readonly acknowledge: (lease: Lease) => Effect.Effect<Duration.Duration, LeaseLost | SqlError>
    /**
     * Releases the batch, to be tried again after `retryAfter`, and stores why. If it has been failing for longer
     * than `incidentAfter`, it joins the open incident of the error's class or opens one. Not to be given for bad
     * data, which is isolated.
     */
    readonly release: (lease: Lease, release: Incidents.Release) => Effect.Effect<void, LeaseLost | SqlError>
    /** What ClickHouse has refused of the batch that this one was cut out of, if it was, and of this one. */
    readonly refusals: (lease: Lease) => Effect.Effect<Refusals, SqlError>
    /**
     * Puts smaller batches in the place of one that ClickHouse refuses and has nothing of: what lies before the
     * suspect, the suspect alone, and what lies behind it, or two halves. They hold its events, each once, under tokens
     * of their own. Must not be done in doubt: what may still be written under the old token would be there twice.
     */
    readonly split: (
      lease: Lease,
      split: Isolating.Split
    ) => Effect.Effect<ReadonlyArray<BatchId>, BatchChanged | LeaseLost | SqlError>
    /** Makes a failure of a batch that ClickHouse refuses and has nothing of, with copies of its events. */
    readonly fail: (
      lease: Lease,
      failure: Isolating.Fail
    ) => Effect.Effect<FailureId, BatchChanged | LeaseLost | SqlError>
    /**
     * Of a batch that ClickHouse refuses and has in part: publishes the missing events again, so that they are sealed
     * anew and can be isolated, and records the batch as delivered, as what is left of it is. Must not be done while an
     * insert may still be written: its events would be there twice.
     */
    readonly republish: (
      lease: Lease,
      missing: readonly [EventId, ...ReadonlyArray<EventId>]
    ) => Effect.Effect<void, BatchChanged | LeaseLost | SqlError>
    /** Releases the batch at once, as an attempt without an answer: the next one finds it in doubt. */
    readonly abandon: (lease: Lease) => Effect.Effect<void, LeaseLost | SqlError>
    /**
     * Finds batches that fail without anybody's saying so, closes incidents that are over, and removes what was closed,
     * or delivered, for longer than the retention.
     */
    readonly housekeep: (options: Housekeeping) => Effect.Effect<Reclaimed, SqlError>
    /** What there is to wait for, of what is sealed. Costs next to nothing. */
    readonly outstanding: Effect.Effect<Outstanding, SqlError>
    /** What relays measure. Costs little, and no more when more events wait. */
    readonly observe: Effect.Effect<Observation, NotMigrated | SqlError>
    /** What of this process' connections to Postgres is in use. */
    readonly connections: Effect.Effect<Connections>
    /** What is undelivered, and in which state. Counts what is not sealed yet. */
    readonly status: Effect.Effect<Status.OutboxStatus, SqlError>
  }
>() {}

/**
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  config: Config.Outbox
): Effect.Effect<typeof OutboxStore.Service, ForeignCluster | NotMigrated | SqlError, SqlClient.SqlClient | Postgres> =>
  Effect.gen(function* () {
    const sql = (yield* SqlClient.SqlClient).withoutTransforms()
    const postgres = yield* Postgres
    yield* checkCluster(sql)
    return {
      position: Sealing.position(sql),
      seal: Sealing.seal(sql, config),
      lease: Leases.lease(sql, config),
      renew: Leases.renew(sql, config),
      sinceFirstAttempt: Leases.sinceFirstAttempt(sql),
      read: Reading.read(postgres),
      readRepair: Reading.readRepair(postgres),
      eventIds: Reading.eventIds(postgres),
      retainedEventIds: Reading.retainedEventIds(postgres),
      planRepair: Leases.planRepair(sql),
      acknowledge: Leases.acknowledge(sql),
      release: Incidents.release(sql),
      refusals: Isolating.refusals(sql),
      split: Isolating.split(sql),
      fail: Isolating.fail(sql),
      republish: republish(sql),
      abandon: Leases.abandon(sql),
      housekeep: housekeep(sql),
      outstanding: Status.outstanding(sql),
      observe: observe(sql),
      connections: postgres.connections,
      status: Status.status(sql)
    }
  })

/**
 * @since 0.1.0
 * @category layers
 */
export const layer = (
  config: Config.Outbox
): Layer.Layer<OutboxStore, ForeignCluster | NotMigrated | SqlError, SqlClient.SqlClient | Postgres> =>
  Layer.effect(OutboxStore, make(config))

/**
 * {@link layer} from the environment: `OUTBOX_BATCH_EVENTS`, `OUTBOX_BATCH_BYTES`, `OUTBOX_LINGER`, `OUTBOX_LEASE`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig: Layer.Layer<
  OutboxStore,
  ConfigError.ConfigError | ForeignCluster | NotMigrated | SqlError,
  SqlClient.SqlClient | Postgres
> = Layer.unwrapEffect(Effect.map(Config.outbox, layer))
