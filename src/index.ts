/**
 * A transactional outbox from PostgreSQL to ClickHouse: an event is written in the transaction that it tells of, and
 * arrives in ClickHouse once that was committed, once.
 *
 * ## The life of an event
 *
 * 1. **Published.** {@link EventPublisher.publish} inserts it into `outbox.event` within the caller's {@link transaction}.
 *    Rolled back, it never was. That is all the application does: it needs Postgres alone, and takes no lock that
 *    another publisher would wait for. {@link Event.define} says which contexts an event may have.
 * 2. **Sealed.** A {@link Relay} notes which transactions were committed since it last looked, by the difference of two
 *    of Postgres' snapshots, and seals their events into batches. A batch is a definition, not a mark on its events: it
 *    is the same bytes whenever it is read.
 * 3. **Leased.** Any number of relays may run. A worker leases a batch for as long as it renews the lease; if it dies,
 *    another one leases the same batch.
 * 4. **Delivered.** The batch goes from COPY into one INSERT, under a token by which ClickHouse drops what it has
 *    already. Only ClickHouse's definite yes acknowledges it. Where no answer came, it is sent again, identically.
 * 5. **Settled.** What ClickHouse refuses is isolated from its neighbours, which are delivered, and becomes a failure that
 *    waits for an operator: {@link BatchFailures} corrects, replays or closes it. Nothing is dropped in silence. After a
 *    day, delivered events leave the outbox.
 * 6. **Read.** It is a row of ClickHouse's `event_log`. {@link EventLog} looks at it, {@link Operations} says where any
 *    event is, {@link Verification} compares both databases and has relays send what ClickHouse lacks.
 *
 * {@link OperatorServer} serves what operators see and do over HTTP. {@link Metrics} and {@link Telemetry} tell what goes
 * on. {@link Config} is the environment, {@link Postgres} and {@link ClickHouse} are the connections, {@link Migrations}
 * make the schemas of both.
 *
 * @example
 * ```ts
 * import { NodeRuntime } from "@effect/platform-node"
 * import { SqlClient } from "@effect/sql"
 * import { Effect, Layer, Schema } from "effect"
 * import { ClickHouse, Event, EventPublisher, Migrations, Postgres, Relay, transaction } from "clickhouse-outbox"
 *
 * const UserCreated = Event.define({ eventType: "user_created", eventContext: Schema.Struct({ email: Schema.String }) })
 *
 * const createUser = (email: string) =>
 *   Effect.gen(function* () {
 *     const sql = yield* SqlClient.SqlClient
 *     yield* sql`INSERT INTO users (email) VALUES (${email})`
 *     yield* EventPublisher.publish(UserCreated({ email }))
 *   }).pipe(transaction)
 *
 * const Live = Layer.merge(EventPublisher.layerConfig, Relay.layerConfig).pipe(
 *   Layer.provideMerge(Migrations.layerConfig),
 *   Layer.provideMerge(Layer.merge(Postgres.layerConfig, ClickHouse.layerConfig))
 * )
 *
 * NodeRuntime.runMain(Effect.provide(Effect.zipRight(createUser("ada@example.com"), Effect.never), Live))
 * ```
 * @since 0.1.0
 */
export * as BatchFailures from "./BatchFailures.ts"
export * as ClickHouse from "./ClickHouse.ts"
export * as Config from "./Config.ts"
export * as Event from "./Event.ts"
export * as EventLog from "./EventLog.ts"
export * as EventPublisher from "./EventPublisher.ts"
export * as Metrics from "./Metrics.ts"
export * as Migrations from "./Migrations.ts"
export * as Operations from "./Operations.ts"
export * as OperatorServer from "./OperatorServer.ts"
export * as Postgres from "./Postgres.ts"
export * as Relay from "./Relay.ts"
export * as Telemetry from "./Telemetry.ts"
export { TransactionFailed, transaction } from "./Transaction.ts"
export * as Verification from "./Verification.ts"

// What only relays need: for programs that put one together from its parts. It changes with how relays work, so an
// application that only publishes, or runs `Relay.layerConfig`, is better off without it.

export * as Batch from "./Batch.ts"
export * as ClickHouseSink from "./ClickHouseSink.ts"
export * as OutboxStore from "./OutboxStore.ts"
export * as RetryPolicy from "./RetryPolicy.ts"
export * as SinkError from "./SinkError.ts"
