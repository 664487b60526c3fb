/**
 * What this project counts and measures: every metric there is, and nothing else. docs/telemetry.md lists them; a test
 * holds that table, the dashboards and the alert rules against this file.
 *
 * They are Effect's own metrics, so they reach whatever the program exports its metrics to; {@link Telemetry} sends
 * them over OTLP, and the operator's HTTP server prints them for Prometheus. Names are Prometheus', with the unit in
 * them: https://prometheus.io/docs/practices/naming/. Counters and histograms are this process' own, to be summed over
 * all of them. Gauges about the outbox are read from Postgres by each relay, which all say the same: take their maximum.
 *
 * @example
 * ```ts
 * import { Effect, Metric } from "effect"
 * import { Metrics } from "clickhouse-outbox"
 *
 * // In a program that runs a relay: whether more waits than its readers put up with.
 * const isBehind = Effect.map(Metric.value(Metrics.backlogEvents), ({ value }) => value > 100_000)
 * ```
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as MetricBoundaries from "effect/MetricBoundaries"
import { version } from "./internal/version.ts"

/** What every name begins with. */
export const PREFIX = "outbox_"

const counter = (name: string, description: string) => Metric.counter(name, { description, incremental: true })
const gauge = (name: string, description: string) => Metric.gauge(name, { description })
const histogram = (name: string, boundaries: ReadonlyArray<number>, description: string) =>
  Metric.histogram(name, MetricBoundaries.fromIterable(boundaries), description)

/** From a millisecond to two minutes, which is the default of `CLICKHOUSE_REQUEST_TIMEOUT`. */
const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120]
/** From a linger of milliseconds to an outage of a day. */
const LONG_SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 1.5, 2.5, 5, 10, 30, 60, 300, 900, 3_600, 21_600, 86_400]
const EVENTS = [1, 10, 100, 500, 1_000, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000]
const BYTES = [1e3, 1e4, 1e5, 5e5, 1e6, 2.5e6, 5e6, 1e7, 2e7, 3.5e7, 7e7]

export const eventsPublished = counter(
  "outbox_events_published_total",
  "Events written into the outbox by this process' EventPublisher, those rolled back later included"
)
export const eventsSealed = counter("outbox_events_sealed_total", "Committed events sealed into batches")
export const eventsDelivered = counter("outbox_events_delivered_total", "Events acknowledged as stored in ClickHouse")
export const eventsRepeated = counter(
  "outbox_events_repeated_total",
  "Events sent again under the token of an attempt in doubt; ClickHouse drops those it has"
)
export const eventsRepaired = counter(
  "outbox_events_repaired_total",
  "Events that ClickHouse was found to lack after an attempt in doubt, and that were sent again"
)
export const eventsRepublished = counter(
  "outbox_events_republished_total",
  "Events published again because ClickHouse refused them while it had the rest of their batch"
)
export const eventsRefused = counter(
  "outbox_events_refused_total",
  "Events that became failures because ClickHouse refuses them"
)
export const eventsReplayed = counter(
  "outbox_events_replayed_total",
  "Events of failures that operators published again through this process"
)
export const batchesSplit = counter(
  "outbox_batches_split_total",
  "Batches split into smaller ones because ClickHouse refuses some of their events"
)
const retriesTotal = counter("outbox_retries_total", "Batches released to be tried again later, by class of error")
export const retries = (errorClass: RetryClass) => Metric.tagged(retriesTotal, "error_class", errorClass)
export const leaseExpiries = counter(
  "outbox_lease_expiries_total",
  "Batches taken over from a worker that had gone silent"
)
export const leasesLost = counter(
  "outbox_leases_lost_total",
  "Batches that this process' workers had to break off because they could not renew their lease in time"
)

export const batchEvents = histogram("outbox_batch_events", EVENTS, "Events in a batch, as it was sealed")
export const batchBytes = histogram("outbox_batch_bytes", BYTES, "Bytes of event contexts in a batch, as it was sealed")
export const sealSeconds = histogram("outbox_seal_seconds", SECONDS, "Time to seal a batch")
export const copySeconds = histogram(
  "outbox_copy_seconds",
  SECONDS,
  "Time until Postgres had sent the last byte of a batch, as fast as ClickHouse took them"
)
export const insertSeconds = histogram(
  "outbox_insert_seconds",
  SECONDS,
  "Time of an insert's whole request, the copy included, until ClickHouse had answered or it failed otherwise"
)
export const acknowledgeSeconds = histogram("outbox_acknowledge_seconds", SECONDS, "Time to acknowledge a batch")
export const publishToDeliveredSeconds = histogram(
  "outbox_publish_to_delivered_seconds",
  LONG_SECONDS,
  "Time from the publication of a batch's oldest event until the batch was acknowledged, by Postgres' clock"
)

export const backlogEvents = gauge(
  "outbox_backlog_events",
  "Events committed and not yet delivered, by the sequence of their ids"
)
export const oldestUndeliveredSeconds = gauge(
  "outbox_oldest_undelivered_seconds",
  "How long the oldest undelivered event has waited since it was published; 0 if there is none"
)
const undeliveredBatchesTotal = gauge("outbox_undelivered_batches", "Undelivered batches, by state")
export const undeliveredBatches = (state: UndeliveredState) => Metric.tagged(undeliveredBatchesTotal, "state", state)
export const openFailures = gauge("outbox_open_failures", "Open failures, which wait for an operator")
export const openFailureEvents = gauge(
  "outbox_open_failure_events",
  "Events of open failures that were not replayed yet"
)
const openIncidentsTotal = gauge("outbox_open_incidents", "Open incidents, by class of error")
export const openIncidents = (errorClass: IncidentClass) => Metric.tagged(openIncidentsTotal, "error_class", errorClass)
export const relayPaused = gauge("outbox_relay_paused", "1 while relays are paused, 0 otherwise")
const slotBytesTotal = gauge("outbox_slot_bytes", "Bytes on disk of a slot of the outbox, indexes included")
export const slotRotations = counter(
  "outbox_slot_rotations_total",
  "How often this relay made new events go to the next slot"
)
export const slotBytes = (slot: string) => Metric.tagged(slotBytesTotal, "slot", slot)

export const relayReady = gauge("outbox_relay_ready", "What /readyz says: 1 if this relay is ready, 0 if not")
export const workers = gauge("outbox_workers", "Workers of this relay")
export const workersBusy = gauge("outbox_workers_busy", "Workers of this relay that have a batch")
export const postgresUp = gauge("outbox_postgres_up", "1 if Postgres answers this relay and has its schema, 0 if not")
export const clickHouseUp = gauge(
  "outbox_clickhouse_up",
  "1 if ClickHouse answers this relay and has a table that de-duplicates, 0 if not"
)
const postgresConnectionsTotal = gauge(
  "outbox_postgres_connections",
  "This process' connections to Postgres, by state; waiting: work that waits for one"
)
export const postgresConnections = (state: ConnectionState) => Metric.tagged(postgresConnectionsTotal, "state", state)
const buildInfoTotal = gauge("outbox_build_info", "1, with the version that this process runs")
export const buildInfo = (version: string) => Metric.tagged(buildInfoTotal, "version", version)

export const UNDELIVERED_STATES = ["sealed", "leased", "retrying", "blocked"] as const
export type UndeliveredState = (typeof UNDELIVERED_STATES)[number]

/** Not `data`: bad data is isolated, and not tried again. */
const RETRY_CLASSES = ["transient", "in-doubt", "configuration", "unknown"] as const
export type RetryClass = (typeof RETRY_CLASSES)[number]

/** An attempt in doubt belongs to the transient incident. */
export const INCIDENT_CLASSES = ["transient", "configuration", "unknown"] as const
export type IncidentClass = (typeof INCIDENT_CLASSES)[number]

export const CONNECTION_STATES = ["used", "idle", "waiting"] as const
export type ConnectionState = (typeof CONNECTION_STATES)[number]

const COUNTERS = [
  eventsSealed,
  eventsDelivered,
  eventsRepeated,
  eventsRepaired,
  eventsRepublished,
  eventsRefused,
  eventsReplayed,
  batchesSplit,
  ...RETRY_CLASSES.map(retries),
  leaseExpiries,
  leasesLost,
  slotRotations
]
const HISTOGRAMS = [
  batchEvents,
  batchBytes,
  sealSeconds,
  copySeconds,
  insertSeconds,
  acknowledgeSeconds,
  publishToDeliveredSeconds
]

/** Shows exporters a program that publishes before it has published, so that its first event is a change from 0. */
export const registerPublisher: Effect.Effect<unknown> = Effect.all([
  Metric.set(buildInfo(version), 1),
  Metric.value(eventsPublished)
])

/** The same for a relay. */
export const registerRelay: Effect.Effect<unknown> = Effect.all([
  Metric.set(buildInfo(version), 1),
  Effect.forEach(COUNTERS, (counter) => Metric.value(counter), { discard: true }),
  Effect.forEach(HISTOGRAMS, (histogram) => Metric.value(histogram), { discard: true })
])
