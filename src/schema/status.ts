/** How far behind an outbox is, and a pause on its relays. Models alone: browsers use them too. `counts.ts` counts. */
import * as Schema from "effect/Schema"
import { BatchId } from "../Batch.ts"
import { ErrorClass } from "../SinkError.ts"
import { column } from "./columns.ts"

/**
 * Somebody has told all relays to take no batch.
 *
 * @since 0.1.0
 * @category models
 */
export class RelayPause extends Schema.Class<RelayPause>("RelayPause")({
  pausedBy: column("paused_by", Schema.String),
  reason: Schema.String,
  pausedAt: column("paused_at", Schema.Date)
}) {}

/**
 * How far behind the outbox is, and why. Its JSON is what the command line and the operator API print.
 *
 * @since 0.1.0
 * @category models
 */
export class OutboxStatus extends Schema.Class<OutboxStatus>("OutboxStatus")({
  /** Events committed and not yet delivered, and those that a batch was requeued for. */
  backlog: Schema.Int,
  /**
   * How long the oldest of them has waited, in milliseconds; null if there is none. Those of a batch that was requeued
   * wait since then.
   */
  oldestUndeliveredMillis: column("oldest_undelivered_ms", Schema.NullOr(Schema.Number)),
  /** Events not in a batch yet. Part of the backlog. */
  unsealed: Schema.Int,
  /** Batches by the states of `outbox.batch_status`, without those that were split. */
  batches: Schema.Struct({
    sealed: Schema.Int,
    leased: Schema.Int,
    retrying: Schema.Int,
    blocked: Schema.Int,
    delivered: Schema.Int,
    failed: Schema.Int
  }),
  /** Open failures, and how many of their events were not published again yet. */
  openFailures: column("open_failures", Schema.Struct({ failures: Schema.Int, events: Schema.Int })),
  openIncidents: column("open_incidents", Schema.Int),
  /** Why no relay takes a batch, if somebody said so. */
  relayPause: column("relay_pause", Schema.NullOr(RelayPause)),
  /** Whether or not that batch was requeued since. */
  lastDeliveredAt: column("last_delivered_at", Schema.NullOr(Schema.Date)),
  /** Of the oldest batch that is not getting through; of those that were requeued only if there is no other. */
  lastError: column(
    "last_error",
    Schema.NullOr(
      Schema.Struct({
        batchId: column("batch_id", BatchId),
        errorClass: column("class", ErrorClass),
        code: Schema.NullOr(Schema.Int),
        message: Schema.String,
        attempts: Schema.Int
      })
    )
  )
}) {}
