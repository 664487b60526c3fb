/** How an outbox is doing: now, and over the last hours. One Schema for SQL's rows and HTTP. */
import * as Schema from "effect/Schema"
import { column } from "./columns.ts"

/**
 * What happened in a stretch of time, of all relays together. What is said of its end is said of now if it has not ended.
 *
 * @since 0.1.0
 * @category models
 */
export class OverviewBucket extends Schema.Class<OverviewBucket>("OverviewBucket")({
  /** When it began. */
  at: Schema.Date,
  /** Events that were published. Those of a batch are spread evenly over the time that it is known to hold. */
  published: Schema.Number,
  /** Events that ClickHouse took, by the first delivery of a batch that was requeued since. */
  delivered: Schema.Int,
  /** Batches that they were in. */
  batches: Schema.Int,
  /** Events that ClickHouse refused and that became failures. */
  refused: Schema.Int,
  /** Failures that they became. */
  failures: Schema.Int,
  /** Events that waited for their delivery at its end, those that a batch was requeued for among them. */
  backlog: Schema.Number,
  /** How long the oldest of them had waited at its end, in milliseconds; 0 if there was none. */
  oldestMillis: column("oldest_ms", Schema.Number),
  /** From publishing to the first acknowledgement, of the oldest event of each delivered batch; null if there is none. */
  p50Millis: column("p50_ms", Schema.NullOr(Schema.Number)),
  p95Millis: column("p95_ms", Schema.NullOr(Schema.Number))
}) {}

/**
 * How it stands now.
 *
 * @since 0.1.0
 * @category models
 */
export class OverviewNow extends Schema.Class<OverviewNow>("OverviewNow")({
  /** Events committed and not yet delivered, nearly: without counting them one by one. */
  backlog: Schema.Number,
  /** How long the oldest of them has waited; 0 if there is none. */
  oldestMillis: column("oldest_ms", Schema.Number),
  batches: Schema.Struct({ sealed: Schema.Int, leased: Schema.Int, retrying: Schema.Int, blocked: Schema.Int }),
  openFailures: column("open_failures", Schema.Int),
  /** Those that were not replayed yet. */
  openFailureEvents: column("open_failure_events", Schema.Int),
  openIncidents: column("open_incidents", Schema.Int),
  relayPaused: column("relay_paused", Schema.Boolean)
}) {}

/**
 * @since 0.1.0
 * @category models
 */
export class Overview extends Schema.Class<Overview>("Overview")({
  /** By the clock of Postgres, as every time in it. */
  at: Schema.Date,
  stepSeconds: column("step_seconds", Schema.Int),
  /** Nothing is known of deliveries before: what is delivered leaves the manifest after a while. Null if there is none. */
  recordedSince: column("recorded_since", Schema.NullOr(Schema.Date)),
  now: OverviewNow,
  /** Oldest first, without a gap; the last one has not ended. */
  buckets: Schema.Array(OverviewBucket)
}) {}
