/**
 * Migrates both databases for the users service, and ends. The service itself then needs no right to create anything:
 *
 *     DATABASE_URL=postgres://owner@… CLICKHOUSE_URL=http://… npx tsx examples/users/migrate.ts
 *     DATABASE_URL=postgres://app@… CLICKHOUSE_URL=http://… npx tsx examples/users/main.ts --migrated
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Effect } from "effect"
import { DatabasesLive } from "./Databases.ts"

NodeRuntime.runMain(Effect.provide(Effect.log("Both databases are migrated"), DatabasesLive))
