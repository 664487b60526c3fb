/** Servers out of npm packages for as long as a benchmark runs, and databases of its own for each of its runs. */
import { SqlClient } from "@effect/sql"
import { ClickHouse, ClickHouseSink, Migrations, OutboxStore, Postgres } from "clickhouse-outbox"
import { EmbeddedClickHouse, EmbeddedPostgres } from "clickhouse-outbox/embedded"
import { Config, ConfigProvider, Context, Effect, Layer, Option, type Scope } from "effect"
import { orError } from "./harness/Flawed.ts"

/** Both servers, whose data are removed when the scope closes. */
export const startWith = (settings: EmbeddedPostgres.Settings) =>
  Effect.all([EmbeddedPostgres.make({ settings }), EmbeddedClickHouse.make()], { concurrency: "unbounded" })

/** Both servers with their default settings. */
export const start = startWith({})

interface Server {
  readonly url: string
  readonly pid: Effect.Effect<number>
}

export type Servers = readonly [postgres: Server, clickHouse: Server]

/** The servers that the environment names, whose processes are not known here, or embedded ones. */
export const given = (settings: EmbeddedPostgres.Settings): Effect.Effect<Servers, Error, Scope.Scope> =>
  Effect.gen(function* () {
    const url = yield* Config.option(Config.all([Config.string("DATABASE_URL"), Config.string("CLICKHOUSE_URL")]))
    if (Option.isNone(url)) return yield* startWith(settings)
    const [postgres, clickHouse] = url.value
    const pid = Effect.succeed(Number.NaN)
    return [
      { url: postgres, pid },
      { url: clickHouse, pid }
    ] as const
  }).pipe(orError)

/** The environment that leads a program to a run's databases. */
export class Variables extends Context.Tag("clickhouse-outbox/bench/Variables")<
  Variables,
  Readonly<Record<"DATABASE_URL" | "CLICKHOUSE_URL" | "CLICKHOUSE_DATABASE", string>>
>() {}

/** Nothing is inherited from the shell's environment. */
export const configuration = (variables: Readonly<Record<string, string>>) =>
  Layer.setConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(variables))))

const connections = Layer.mergeAll(Postgres.layerConfig, ClickHouse.layerConfig)

const services = Layer.mergeAll(OutboxStore.layerConfig, ClickHouseSink.layerConfig).pipe(
  Layer.provide(Migrations.layerConfig),
  Layer.provideMerge(connections)
)

/** Connections and nothing else: the databases stay as they are. */
export const connect = (variables: typeof Variables.Service) => Layer.provide(connections, configuration(variables))

/** Connections to the servers' own databases. */
export const connectTo = ([postgres, clickHouse]: Servers) =>
  connect({ DATABASE_URL: postgres.url, CLICKHOUSE_URL: clickHouse.url, CLICKHOUSE_DATABASE: "default" })

/** A database on each server, dropped in the end. Postgres' may begin as a copy of another one. */
export const create = ([postgres, clickHouse]: Servers, name: string, template?: string) =>
  Effect.gen(function* () {
    const admin = { DATABASE_URL: postgres.url, CLICKHOUSE_URL: clickHouse.url }
    const execute = (inPostgres: string, inClickHouse: string) =>
      Effect.gen(function* () {
        yield* (yield* SqlClient.SqlClient).unsafe(inPostgres)
        yield* (yield* ClickHouse.ClickHouse).command(inClickHouse)
      }).pipe(Effect.provide(Layer.provide(connections, configuration(admin))))
    const copied = template === undefined ? "" : `TEMPLATE ${template} STRATEGY file_copy`
    yield* Effect.acquireRelease(execute(`CREATE DATABASE ${name} ${copied}`, `CREATE DATABASE ${name}`), () =>
      Effect.orDie(execute(`DROP DATABASE ${name} WITH (FORCE)`, `DROP DATABASE ${name} SYNC`))
    )
    const url = new URL(postgres.url)
    url.pathname = `/${name}`
    return { ...admin, DATABASE_URL: url.href, CLICKHOUSE_DATABASE: name }
  })

interface Options {
  readonly template?: string
  /** Variables on top of the defaults. */
  readonly settings?: Readonly<Record<string, string>>
}

/** Databases that are dropped in the end, and what a relay needs. */
export const layer = (servers: Servers, name: string, { settings = {}, template }: Options = {}) =>
  Layer.unwrapScoped(
    Effect.map(create(servers, name, template), (created) => {
      const variables = { ...created, ...settings }
      return Layer.merge(Layer.provideMerge(services, configuration(variables)), Layer.succeed(Variables, variables))
    })
  )

/** Turns autovacuum off for the outbox of this database. */
export const stopAutovacuum = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  sql.unsafe(`
    DO $$
    DECLARE name regclass;
    BEGIN
      FOR name IN SELECT oid FROM pg_class WHERE relnamespace = 'outbox'::regnamespace AND relkind = 'r' LOOP
        EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = off, toast.autovacuum_enabled = off)', name);
      END LOOP;
    END $$`)
)
