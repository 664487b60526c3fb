/** Servers out of npm packages for as long as a benchmark runs, and databases of its own for each of its runs. */
import { SqlClient } from "@effect/sql"
import { ClickHouse, ClickHouseSink, Migrations, OutboxStore, Postgres } from "clickhouse-outbox"
import { EmbeddedClickHouse, EmbeddedPostgres } from "clickhouse-outbox/embedded"
import { ConfigProvider, Effect, Layer } from "effect"

/** Both servers, whose data are removed when the scope closes. */
export const start = Effect.all([EmbeddedPostgres.make(), EmbeddedClickHouse.make()], { concurrency: "unbounded" })

export type Servers = Effect.Effect.Success<typeof start>

/** The variables of the surrounding shell have no part in it. */
const configuration = (variables: Readonly<Record<string, string>>) =>
  Layer.setConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(variables))))

const connections = Layer.mergeAll(Postgres.layerConfig, ClickHouse.layerConfig)

const services = Layer.mergeAll(OutboxStore.layerConfig, ClickHouseSink.layerConfig).pipe(
  Layer.provide(Migrations.layerConfig),
  Layer.provideMerge(connections)
)

/** Databases that are empty and are dropped in the end, and what a relay needs, configured as where nothing is set. */
export const layer = ([postgres, clickHouse]: Servers, name: string) =>
  Layer.unwrapScoped(
    Effect.gen(function* () {
      const variables = { DATABASE_URL: postgres.url, CLICKHOUSE_URL: clickHouse.url }
      const admin = yield* Layer.build(Layer.provide(connections, configuration(variables)))
      const execute = (inPostgres: string, inClickHouse: string) =>
        Effect.gen(function* () {
          yield* (yield* SqlClient.SqlClient).unsafe(inPostgres)
          yield* (yield* ClickHouse.ClickHouse).command(inClickHouse)
        }).pipe(Effect.provide(admin))
      yield* Effect.acquireRelease(execute(`CREATE DATABASE ${name}`, `CREATE DATABASE ${name}`), () =>
        Effect.orDie(execute(`DROP DATABASE ${name} WITH (FORCE)`, `DROP DATABASE ${name} SYNC`))
      )
      const url = new URL(postgres.url)
      url.pathname = `/${name}`
      const own = configuration({ ...variables, DATABASE_URL: url.href, CLICKHOUSE_DATABASE: name })
      return Layer.provideMerge(services, own)
    })
  )
