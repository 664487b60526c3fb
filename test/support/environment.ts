/**
 * A Postgres database and a ClickHouse database of a test file's own, and the services on top of them, composed and
 * configured as users do.
 */
import { randomUUID } from "node:crypto"
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as SqlClient from "@effect/sql/SqlClient"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Redacted from "effect/Redacted"
import { inject } from "vitest"
import * as ClickHouse from "../../src/ClickHouse.ts"
import * as ClickHouseSink from "../../src/ClickHouseSink.ts"
import * as Config from "../../src/Config.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import * as Migrations from "../../src/Migrations.ts"
import * as OutboxStore from "../../src/OutboxStore.ts"
import * as Postgres from "../../src/Postgres.ts"
import { HERE, ORIGIN } from "../../src/schema/compatibility.ts"

/** The variables that the databases of this file are configured by, for child processes. */
export class Environment extends Context.Tag("test/Environment")<Environment, Readonly<Record<string, string>>>() {}

const overPostgres = <A, E>(effect: Effect.Effect<A, E, SqlClient.SqlClient>) =>
  Effect.provide(effect, PgClient.layer({ url: Redacted.make(inject("postgresUrl")) }))

const overClickHouse = (statement: string) =>
  Effect.promise(async () => {
    const response = await fetch(inject("clickhouseUrl"), { method: "POST", body: statement })
    if (!response.ok) throw new Error(await response.text())
  })

/** Makes the clone of the template the outbox that a migration of its own would have made. */
const adoptOutbox = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  sql.unsafe(`UPDATE outbox.sealer SET (${ORIGIN}) = ${HERE}`)
)

const acquireDatabases = (overrides: Readonly<Record<string, string>>) =>
  Effect.gen(function* () {
    const name = `outbox_${randomUUID().replaceAll("-", "")}`
    const databaseUrl = new URL(inject("postgresUrl"))
    databaseUrl.pathname = `/${name}`
    yield* Effect.acquireRelease(
      overPostgres(
        Effect.flatMap(SqlClient.SqlClient, (sql) =>
          sql.unsafe(`CREATE DATABASE ${name} TEMPLATE ${inject("template")}`)
        )
      ),
      () =>
        Effect.orDie(
          overPostgres(Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe(`DROP DATABASE ${name} WITH (FORCE)`)))
        )
    )
    yield* Effect.provide(adoptOutbox, PgClient.layer({ url: Redacted.make(databaseUrl.href) }))
    yield* Effect.acquireRelease(overClickHouse(`CREATE DATABASE ${name}`), () =>
      overClickHouse(`DROP DATABASE ${name} SYNC`)
    )
    return {
      DATABASE_URL: databaseUrl.href,
      CLICKHOUSE_URL: inject("clickhouseUrl"),
      CLICKHOUSE_DATABASE: name,
      OUTBOX_ENVIRONMENT: "test",
      ...overrides
    }
  })

const migrateClickHouse = Layer.effectDiscard(Effect.flatMap(Config.clickHouse, Migrations.clickHouse))

const configuredBy = (variables: Readonly<Record<string, string>>) =>
  Layer.setConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(variables))))

const services = (variables: Readonly<Record<string, string>>) =>
  Layer.mergeAll(OutboxStore.layerConfig, ClickHouseSink.layerConfig, EventPublisher.layerConfig).pipe(
    Layer.provideMerge(Layer.mergeAll(Postgres.layerConfig, ClickHouse.layerConfig)),
    Layer.provideMerge(NodeContext.layer),
    // What goes wrong on purpose is asserted, not printed.
    Layer.provideMerge(Logger.minimumLogLevel(LogLevel.Error)),
    Layer.provide(configuredBy(variables)),
    Layer.merge(Layer.succeed(Environment, variables)),
    Layer.merge(configuredBy(variables))
  )

/** Fresh databases, and everything but a relay. `overrides` are variables as in docs/configuration.md. */
export const layer = (overrides: Readonly<Record<string, string>> = {}) =>
  Layer.unwrapScoped(
    Effect.map(acquireDatabases(overrides), (variables) => Layer.provideMerge(migrateClickHouse, services(variables)))
  )

/** Runs a test on databases of its own, that nothing it does can spoil for another. */
export const fresh =
  (overrides: Readonly<Record<string, string>> = {}) =>
  <A, E, R>(test: Effect.Effect<A, E, R>) =>
    Effect.provide(Effect.scoped(test), layer(overrides))

/** On servers of the test's own, whose databases are empty. */
export const onServers = (variables: Readonly<Record<string, string>>) =>
  Layer.mergeAll(migrateClickHouse, Layer.effectDiscard(Migrations.postgres)).pipe(
    Layer.provide(NodeContext.layer),
    Layer.provide(Layer.mergeAll(Postgres.layerConfig, ClickHouse.layerConfig)),
    Layer.provide(configuredBy(variables)),
    (migrated) => Layer.provideMerge(services(variables), migrated)
  )

/** The same databases, but services and connections of its own: as another program has them. */
export const another = (overrides: Readonly<Record<string, string>> = {}) =>
  Layer.unwrapEffect(Effect.map(Environment, (variables) => services({ ...variables, ...overrides })))
