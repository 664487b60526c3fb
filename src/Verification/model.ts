/** What a comparison of the two databases finds. One Schema for the service and for JSON. */
import * as Schema from "effect/Schema"
import { BatchId, FailureId } from "../Batch.ts"
import { EventId } from "../Event.ts"
import { ErrorClass } from "../SinkError.ts"
import { column } from "../schema/columns.ts"

/** Tells one line of JSON from another. */
const kind = <Kind extends string>(kind: Kind) =>
  Schema.propertySignature(Schema.Literal(kind)).pipe(Schema.withConstructorDefault(() => kind))

/**
 * Events of a batch that ClickHouse had taken, and lacks.
 *
 * @since 0.1.0
 * @category models
 */
export class Missing extends Schema.Class<Missing>("Missing")({
  kind: kind("missing"),
  batchId: column("batch_id", BatchId),
  deliveredAt: column("delivered_at", Schema.Date),
  eventIds: column("event_ids", Schema.NonEmptyArray(EventId)),
  /** Whether the batch was requeued, so that relays send what is missing. */
  requeued: Schema.Boolean
}) {}

/**
 * Events of a batch that ClickHouse has more rows of than were published under their ids.
 *
 * @since 0.1.0
 * @category models
 */
export class Doubled extends Schema.Class<Doubled>("Doubled")({
  kind: kind("doubled"),
  batchId: column("batch_id", BatchId),
  deliveredAt: column("delivered_at", Schema.Date),
  eventIds: column("event_ids", Schema.NonEmptyArray(EventId))
}) {}

/**
 * Events of a batch of which ClickHouse has no row that says what the outbox says: the type, the time, the environment,
 * the context up to what ClickHouse's JSON type changes, the version or the trace is another.
 *
 * @since 0.1.0
 * @category models
 */
export class Changed extends Schema.Class<Changed>("Changed")({
  kind: kind("changed"),
  batchId: column("batch_id", BatchId),
  deliveredAt: column("delivered_at", Schema.Date),
  eventIds: column("event_ids", Schema.NonEmptyArray(EventId))
}) {}

/**
 * Events of an open failure: ClickHouse refused them, and nobody has decided about them yet. They do not count as missing.
 *
 * @since 0.1.0
 * @category models
 */
export class Failed extends Schema.Class<Failed>("Failed")({
  kind: kind("failed"),
  failureId: column("failure_id", FailureId),
  batchId: column("batch_id", BatchId),
  /** Those that were not replayed. */
  events: Schema.Int,
  errorClass: column("class", ErrorClass),
  code: Schema.NullOr(Schema.Int),
  lastSeenAt: column("last_seen_at", Schema.Date)
}) {}

/**
 * @since 0.1.0
 * @category models
 */
export const Finding = Schema.Union(Missing, Doubled, Changed, Failed)
export type Finding = typeof Finding.Type

const Count = Schema.Struct({ batches: Schema.Int, events: Schema.Int })

/**
 * What was compared, and what came of it. Counts are of events' rows in the outbox.
 *
 * @since 0.1.0
 * @category models
 */
export class Report extends Schema.Class<Report>("Report")({
  kind: kind("report"),
  /** When it began, by Postgres' clock. What was delivered after that was not compared. */
  asOf: column("as_of", Schema.Date),
  /** What was published since then the outbox has all of; null if it has everything that was ever published. */
  completeSince: column("complete_since", Schema.NullOr(Schema.Date)),
  /** Batches that were delivered, and those of their events that the outbox still has. */
  compared: Count,
  /**
   * Events of those batches that are not in them any more: the outbox has emptied them, somebody deleted them, or they
   * were published again and are another batch's.
   */
  notRetained: column("not_retained", Schema.Int),
  missing: Count,
  /** Of those that are missing. */
  requeued: Count,
  doubled: Count,
  /** Null if contents were not compared. */
  changed: Schema.NullOr(Count),
  /** Open failures. */
  failed: Schema.Struct({ failures: Schema.Int, events: Schema.Int }),
  /** Events that wait for their delivery, and were not compared. */
  undelivered: Schema.Int,
  /** What ClickHouse removes by itself, as the table says it. It cannot be told from what was lost. */
  tableTtl: column("table_ttl", Schema.NullOr(Schema.String))
}) {
  /**
   * Whether ClickHouse has every event once that it was found to have taken, or will have it by the relays; and as it was
   * published, if contents were compared.
   */
  get isWhole(): boolean {
    return (
      this.missing.events === this.requeued.events && this.doubled.events === 0 && (this.changed?.events ?? 0) === 0
    )
  }
}
