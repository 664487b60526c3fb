/**
 * A transactional outbox from PostgreSQL to ClickHouse.
 *
 * - {@link EventPublisher} writes events in the caller's own transaction, {@link Event} defines them, and
 *   {@link transaction} is a transaction whose success means that it was committed.
 * - {@link Relay} carries committed events to ClickHouse: {@link OutboxStore} is its side of Postgres,
 *   {@link ClickHouseSink} its side of ClickHouse.
 * - {@link BatchFailures}, {@link Operations} and {@link EventLog} are what operators see and do, {@link OperatorServer} serves
 *   them over HTTP.
 * - {@link Verification} compares the two databases, and has relays send what ClickHouse lacks.
 * - {@link Postgres} and {@link ClickHouse} are the connections, {@link Migrations} the schemas, {@link Config} the
 *   environment.
 * - {@link Metrics} are what is measured, {@link Telemetry} sends them, spans and logs over OTLP.
 *
 * @since 0.1.0
 */
export * as Batch from "./Batch.ts"
export * as BatchFailures from "./BatchFailures.ts"
export * as ClickHouse from "./ClickHouse.ts"
export * as ClickHouseSink from "./ClickHouseSink.ts"
export * as Config from "./Config.ts"
export * as Event from "./Event.ts"
export * as EventLog from "./EventLog.ts"
export * as EventPublisher from "./EventPublisher.ts"
export * as Metrics from "./Metrics.ts"
export * as Migrations from "./Migrations.ts"
export * as Operations from "./Operations.ts"
export * as OperatorServer from "./OperatorServer.ts"
export * as OutboxStore from "./OutboxStore.ts"
export * as Postgres from "./Postgres.ts"
export * as Relay from "./Relay.ts"
export * as RetryPolicy from "./RetryPolicy.ts"
export * as SinkError from "./SinkError.ts"
export * as Telemetry from "./Telemetry.ts"
export { TransactionFailed, transaction } from "./Transaction.ts"
export * as Verification from "./Verification.ts"
