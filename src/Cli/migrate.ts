/** `clickhouse-outbox migrate` and `clickhouse-outbox restamp` */
import * as Command from "@effect/cli/Command"
import { all } from "effect/Config"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as ClickHouse from "../ClickHouse.ts"
import * as Config from "../Config.ts"
import * as Migrations from "../Migrations.ts"
import * as OutboxStore from "../OutboxStore.ts"
import * as Postgres from "../Postgres.ts"
import { count } from "./print.ts"
import { namePostgres } from "./services.ts"

const migratePostgres = (config: Config.Postgres) =>
  Migrations.postgres.pipe(
    Effect.provide(Postgres.layerPinned(config)),
    namePostgres(config),
    Effect.flatMap((done) =>
      Console.log(done.length === 0 ? "Postgres: was up to date" : `Postgres: migrated, ${done.join(", ")}`)
    )
  )

const migrateClickHouse = (config: Config.ClickHouse) =>
  Migrations.clickHouse(config).pipe(
    Effect.provide(ClickHouse.layer(config)),
    Effect.zipRight(Console.log(`ClickHouse: table ${config.table} is there`))
  )

export const migrate = Command.make("migrate", {}, () =>
  Effect.gen(function* () {
    const config = yield* all({ postgres: Config.postgres, clickHouse: Config.clickHouse })
    yield* migratePostgres(config.postgres)
    yield* migrateClickHouse(config.clickHouse)
  }).pipe(Effect.interruptible)
).pipe(
  Command.withDescription(
    "Brings both databases to the schema of this release. Safe to run at any time, and by several at once."
  )
)

export const restamp = Command.make("restamp", {}, () =>
  Effect.gen(function* () {
    const config = yield* Config.postgres
    const { batches, events } = yield* OutboxStore.restamp.pipe(
      Effect.provide(Postgres.layerPinned(config)),
      namePostgres(config)
    )
    yield* Console.log(`restamped ${count(events, "event")}, in ${batches} ${batches === 1 ? "batch" : "batches"}`)
  }).pipe(Effect.interruptible)
).pipe(
  Command.withDescription(
    "Repairs the outbox of a database that was restored from a dump or upgraded. Stop all relays before."
  )
)
