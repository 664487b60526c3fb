/**
 * A users service whose events reach ClickHouse: HTTP server and relay in one program.
 *
 *     DATABASE_URL=postgres://… CLICKHOUSE_URL=http://… npx tsx examples/users/main.ts
 *     curl localhost:3000/users -H content-type:application/json -d '{"email":"ada@example.com","name":"Ada","country":"GB"}'
 */
import { createServer } from "node:http"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Relay, Telemetry } from "clickhouse-outbox"
import { Config, Layer } from "effect"
import { DatabasesLive, MigratedDatabasesLive } from "./Databases.ts"
import { HttpLive } from "./Http.ts"

const ServerLive = NodeHttpServer.layerConfig(createServer, {
  port: Config.integer("PORT").pipe(Config.withDefault(3000))
})

Layer.merge(Layer.provide(HttpLive, ServerLive), Relay.layerConfig).pipe(
  Layer.provide(process.argv.includes("--migrated") ? MigratedDatabasesLive : DatabasesLive),
  Layer.provide(Telemetry.layerConfig("users")),
  Layer.launch,
  NodeRuntime.runMain
)
