/**
 * The outbox in Postgres, as a relay uses it: seals committed events into batches, leases batches to workers, reads
 * them as bytes and records what became of them.
 *
 * Nothing is skipped: a window holds every row that was committed between two snapshots, whatever ids and whichever
 * order its transactions had. Nothing is marked: an event costs no write after it was published, a batch costs three
 * small ones. Safe with any number of relays, none of which needs to know of another: one seals at a time, a batch has
 * one lease at a time, and every change under a lease checks that it is still this lease's. All times are Postgres'
 * own, so that a relay's wrong clock harms nobody.
 *
 * **Only relays need this.** Applications publish with `EventPublisher`, and operate an outbox with `Operations`,
 * `BatchFailures` and `Verification`. What is here changes with the outbox's tables, in any release.
 *
 * @since 0.1.0
 */
import * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import type * as Arr from "effect/Array"
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
import * as Incidents from "./OutboxStore/Incidents.ts"
import * as Isolation from "./OutboxStore/Isolation.ts"
import * as Leasing from "./OutboxStore/Leasing.ts"
import type {
  BatchChanged,
  Kinds,
  LeaseLost,
  Position,
  Reclaimed,
  Refusals,
  Sealed,
  SinceFirstAttempt
} from "./OutboxStore/model.ts"
import * as Reading from "./OutboxStore/Reading.ts"
import * as Retention from "./OutboxStore/Retention.ts"
import * as Sealing from "./OutboxStore/Sealing.ts"
import * as Slots from "./OutboxStore/Slots.ts"
import { type Connections, Postgres } from "./Postgres.ts"
import {
  type ForeignDatabase,
  type NotMigrated,
  requireOwnOutbox,
  type UnsuitableEncoding
} from "./schema/compatibility.ts"
import * as Counts from "./schema/counts.ts"
import { gauges, type OutboxGauges } from "./schema/gauges.ts"
import type { OutboxStatus, RelayPause } from "./schema/status.ts"

export {
  BatchChanged,
  type Kinds,
  LeaseLost,
  type Position,
  type Reclaimed,
  type Refusals,
  Sealed,
  type SinceFirstAttempt
} from "./OutboxStore/model.ts"
export { type Restamped, restamp } from "./OutboxStore/restamp.ts"
export { ForeignDatabase, NotMigrated, UnsuitableEncoding } from "./schema/compatibility.ts"
export { OutboxGauges } from "./schema/gauges.ts"
export { OutboxStatus, RelayPause } from "./schema/status.ts"

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
     * Seals the next batch if one is due: full, or its oldest event has waited `linger`. With `flush` whatever there is
     * is due.
     */
    readonly seal: (options?: { readonly flush: boolean }) => Effect.Effect<Sealed, SqlError>
    /** Takes the oldest batch that may be tried now; none while relays are paused. `owner` is for people to read. */
    readonly lease: (owner: string) => Effect.Effect<Option.Option<Lease>, SqlError>
    /** Keeps the lease for another term. */
    readonly renew: (lease: Lease) => Effect.Effect<void, LeaseLost | SqlError>
    /** What has happened since the batch was first tried, this attempt included. */
    readonly sinceFirstAttempt: (lease: Lease) => Effect.Effect<SinceFirstAttempt, LeaseLost | SqlError>
    /** The batch as TabSeparated rows of `event_log`: the same bytes each time. Fails rather than end early. */
    readonly read: (batch: Batch) => Stream.Stream<Uint8Array, SqlError | BatchChanged>
    /** Those of the batch's events that a repair sends again, in the same format. */
    readonly readRepair: (batch: Batch, repair: Repair) => Stream.Stream<Uint8Array, SqlError | BatchChanged>
    /** The ids of the batch's events. */
    readonly eventIds: (batch: Batch) => Effect.Effect<ReadonlyArray<EventId>, SqlError | BatchChanged>
    /**
     * The ids of those of its events that the outbox still has. Rows of a batch that was delivered may have been
     * deleted, alone or with their slot, or published again.
     */
    readonly retainedEventIds: (batch: Batch) => Effect.Effect<ReadonlyArray<EventId>, SqlError>
    /** Stores, before anything is sent, which events are to be sent again and under which new token. */
    readonly planRepair: (
      lease: Lease,
      missing: Arr.NonEmptyReadonlyArray<EventId>
    ) => Effect.Effect<Repair, LeaseLost | SqlError>
    /**
     * Everything in the batch is in ClickHouse. Closes the incident that it was the last of. Returns how long the
     * oldest of its events was under way.
     */
    readonly acknowledge: (lease: Lease) => Effect.Effect<Duration.Duration, LeaseLost | SqlError>
    /**
     * Releases the batch, to be tried again after `retryAfter`, and stores why. If it has been failing for longer
     * than `incidentAfter`, it joins the open incident of the error's class or opens one. Not to be given for bad
     * data, which is isolated.
     */
    readonly release: (lease: Lease, release: Leasing.Release) => Effect.Effect<void, LeaseLost | SqlError>
    /** What ClickHouse has refused of the batch that was sealed, of which this one is a part or the whole. */
    readonly refusals: (lease: Lease) => Effect.Effect<Refusals, SqlError>
    /**
     * Puts smaller batches in the place of one that ClickHouse refuses and has nothing of: what lies before the
     * suspect, the suspect alone, and what lies behind it, or two halves. They have its events, each once, under tokens
     * of their own. Must not be done in doubt: what may still be written under the old token would be there twice.
     */
    readonly split: (
      lease: Lease,
      split: Isolation.Split
    ) => Effect.Effect<ReadonlyArray<BatchId>, BatchChanged | LeaseLost | SqlError>
    /**
     * The types of a refused batch's events: those of which an event of the batch that was sealed was refused before, or is
     * the suspect, whose position is from 1, and the others.
     */
    readonly kinds: (lease: Lease, suspect: Option.Option<number>) => Effect.Effect<Kinds, SqlError>
    /**
     * Puts two batches in the place of one that ClickHouse refuses and has nothing of: the events of suspected types, and
     * all others. Must not be done in doubt, as `split`.
     */
    readonly splitByType: (
      lease: Lease,
      split: Isolation.SplitByType
    ) => Effect.Effect<ReadonlyArray<BatchId>, BatchChanged | LeaseLost | SqlError>
    /** Makes a failure of a batch that ClickHouse refuses and has nothing of, with copies of its events. */
    readonly fail: (
      lease: Lease,
      failure: Isolation.Fail
    ) => Effect.Effect<FailureId, BatchChanged | LeaseLost | SqlError>
    /**
     * Of a batch that ClickHouse refuses and has in part: publishes the missing events again, so that they are sealed
     * anew and can be isolated, and records the batch as delivered, as what is left of it is. Must not be done while an
     * insert may still be written: its events would be there twice.
     */
    readonly republish: (
      lease: Lease,
      missing: Arr.NonEmptyReadonlyArray<EventId>
    ) => Effect.Effect<void, BatchChanged | LeaseLost | SqlError>
    /** Releases the batch at once, as an attempt without an answer: the next one finds it in doubt. */
    readonly abandon: (lease: Lease) => Effect.Effect<void, LeaseLost | SqlError>
    /**
     * Periodic maintenance. Incidents: opens one for batches that fail though no worker says so, and closes those that
     * are over. Retention: deletes what was closed longer ago than `failureRetention`. Slots: empties those whose
     * events were delivered and are older than `eventRetention`. Safe at any time: of relays that do it at once one
     * does each thing.
     */
    readonly maintain: (
      options: Pick<Config.Relay, "eventRetention" | "failureRetention" | "incidentAfter">
    ) => Effect.Effect<Reclaimed, SqlError>
    /** Whether a batch is sealed and undelivered. Costs next to nothing. */
    readonly hasPending: Effect.Effect<boolean, SqlError>
    /** Why no batch can be leased, if somebody paused the relays. */
    readonly relayPause: Effect.Effect<Option.Option<RelayPause>, SqlError>
    /** What relays measure. Costs little, and no more when more events wait. */
    readonly gauges: Effect.Effect<OutboxGauges, NotMigrated | SqlError>
    /** What of this process' connections to Postgres is in use. */
    readonly connections: Effect.Effect<Connections>
    /** What is undelivered, and in which state. Counts what is not sealed yet. */
    readonly status: Effect.Effect<OutboxStatus, SqlError>
  }
>() {}

/**
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  config: Config.Outbox
): Effect.Effect<
  typeof OutboxStore.Service,
  ForeignDatabase | NotMigrated | SqlError | UnsuitableEncoding,
  SqlClient.SqlClient | Postgres
> =>
  Effect.gen(function* () {
    const sql = (yield* SqlClient.SqlClient).withoutTransforms()
    const postgres = yield* Postgres
    yield* requireOwnOutbox(sql)
    const incidents = Incidents.make(sql)
    return {
      ...Sealing.make(sql, config),
      ...Leasing.make(sql, config, incidents),
      ...Reading.make(postgres),
      ...Isolation.make(sql, incidents),
      maintain: maintain({ incidents, retention: Retention.make(sql), slots: Slots.make(sql) }),
      hasPending: Counts.hasPending(sql),
      relayPause: Counts.relayPause(sql),
      gauges: gauges(sql),
      connections: postgres.connections,
      status: Effect.withSpan(Counts.status(sql), "OutboxStore.status")
    }
  })

const maintain = ({
  incidents,
  retention,
  slots
}: {
  readonly incidents: ReturnType<typeof Incidents.make>
  readonly retention: ReturnType<typeof Retention.make>
  readonly slots: ReturnType<typeof Slots.make>
}) =>
  Effect.fn("OutboxStore.maintain")(function* ({
    eventRetention,
    failureRetention,
    incidentAfter
  }: Parameters<(typeof OutboxStore.Service)["maintain"]>[0]) {
    yield* incidents.open(incidentAfter)
    yield* incidents.close
    yield* retention.deleteClosed(failureRetention)
    return yield* slots.reclaim(eventRetention)
  })

/**
 * @since 0.1.0
 * @category layers
 */
export const layer = (
  config: Config.Outbox
): Layer.Layer<
  OutboxStore,
  ForeignDatabase | NotMigrated | SqlError | UnsuitableEncoding,
  SqlClient.SqlClient | Postgres
> => Layer.effect(OutboxStore, make(config))

/**
 * {@link layer} from the environment: `OUTBOX_BATCH_EVENTS`, `OUTBOX_BATCH_BYTES`, `OUTBOX_LINGER`, `OUTBOX_LEASE`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig: Layer.Layer<
  OutboxStore,
  ConfigError.ConfigError | ForeignDatabase | NotMigrated | SqlError | UnsuitableEncoding,
  SqlClient.SqlClient | Postgres
> = Layer.unwrapEffect(Effect.map(Config.outbox, layer))
