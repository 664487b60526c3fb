/** What an outbox consists of: its databases and its relays. One Schema for SQL's rows, the command line and HTTP. */
import * as Schema from "effect/Schema"
import { BatchId } from "../Batch.ts"
import { column } from "./columns.ts"
import { RelayPause } from "./status.ts"

/**
 * Whether a database can be used.
 *
 * @since 0.1.0
 * @category models
 */
export class DatabaseState extends Schema.Class<DatabaseState>("DatabaseState")({
  reachable: Schema.Boolean,
  /** Whether it has all that `clickhouse-outbox migrate` makes. */
  migrated: Schema.Boolean,
  /** What is wrong, and what to do; null if nothing is. */
  reason: Schema.NullOr(Schema.String),
  version: Schema.NullOr(Schema.String),
  /** How long it took to answer. */
  pingMillis: column("ping_ms", Schema.NullOr(Schema.Number))
}) {}

/**
 * A batch that a relay is sending.
 *
 * @since 0.1.0
 * @category models
 */
export class RelayLease extends Schema.Class<RelayLease>("RelayLease")({
  batchId: column("batch_id", BatchId),
  eventCount: column("event_count", Schema.Int),
  /** Which of the relay's workers has it, from 0. */
  worker: Schema.Int,
  since: Schema.Date,
  /** When its lease ends; renewed while the worker is alive. */
  until: Schema.Date
}) {}

/**
 * A relay of the outbox, as the databases know it.
 *
 * @since 0.1.0
 * @category models
 */
export class RelayState extends Schema.Class<RelayState>("RelayState")({
  /** Host and process: `host/pid`. */
  id: Schema.String,
  /** Whether it is the one that answered this. */
  self: Schema.Boolean,
  /** Its connections to Postgres. 0 if it is known by its batches alone, as one inside another program is. */
  connections: Schema.Int,
  /** When the oldest of them was made; null if there is none, or if its role may not be looked at. */
  connectedSince: column("connected_since", Schema.NullOr(Schema.Date)),
  leases: Schema.Array(RelayLease),
  /** In the last 15 minutes. */
  deliveredBatches: column("delivered_batches", Schema.Int),
  deliveredEvents: column("delivered_events", Schema.Int),
  lastDeliveredAt: column("last_delivered_at", Schema.NullOr(Schema.Date))
}) {}

/**
 * Nothing was changed.
 *
 * @since 0.1.0
 * @category errors
 */
export class AlreadyPaused extends Schema.TaggedError<AlreadyPaused>()("AlreadyPaused", { pause: RelayPause }) {
  override get message(): string {
    const { pausedAt, pausedBy, reason } = this.pause
    return `Relays are paused already, by ${pausedBy} since ${pausedAt.toISOString()}: ${reason}`
  }
}

/**
 * @since 0.1.0
 * @category errors
 */
export class NotPaused extends Schema.TaggedError<NotPaused>()("NotPaused", {}) {
  override get message(): string {
    return "Relays are not paused"
  }
}
