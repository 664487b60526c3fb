/** Bringing the schema along: by `migrate`, and by a program as it starts. */
import { randomUUID } from "node:crypto"
import * as SqlClient from "@effect/sql/SqlClient"
import * as PgClient from "@effect/sql-pg/PgClient"
import { expect, layer } from "@effect/vitest"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Redacted from "effect/Redacted"
import * as ClickHouse from "../../src/ClickHouse.ts"
import * as Event from "../../src/Event.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import * as Migrations from "../../src/Migrations.ts"
import * as Postgres from "../../src/Postgres.ts"
import * as Environment from "../support/environment.ts"
import * as Proxy from "../support/proxy.ts"
import { until } from "../support/wait.ts"

/** `DATABASE_URL` of a database beside this file's: empty, and dropped when the scope closes. */
const emptyDatabase = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const name = `empty_${randomUUID().replaceAll("-", "")}`
  yield* Effect.acquireRelease(sql.unsafe(`CREATE DATABASE ${name}`), () =>
    Effect.orDie(sql.unsafe(`DROP DATABASE ${name} WITH (FORCE)`))
  )
  const url = new URL(String((yield* Environment.Environment).DATABASE_URL))
  url.pathname = name
  return url.href
})

layer(Environment.layer(), { excludeTestServices: true })((it) => {
  it.scoped("Migrations names the event trigger that they fail in, and what to do about it", () =>
    Effect.gen(function* () {
      const url = yield* emptyDatabase
      const error = yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql.unsafe(`
          CREATE TABLE public.ddl_log (command text);
          CREATE FUNCTION public.log_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$
            BEGIN INSERT INTO ddl_log VALUES (tg_tag); END
          $$;
          CREATE EVENT TRIGGER audit_ddl ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION public.log_ddl();
        `)
        const error = yield* Effect.flip(Migrations.postgres)
        yield* sql.unsafe("ALTER FUNCTION public.log_ddl() SET search_path = public")
        expect(yield* Migrations.postgres).toContain("0001_outbox")
        return error
      }).pipe(Effect.provide(PgClient.layer({ url: Redacted.make(url) })))
      expect(error.message).toBe(
        'Postgres could not be migrated, and is as it was: Migration "1_outbox" failed: relation "ddl_log" does not exist. That is in the event trigger audit_ddl, which ran with a search_path of "pg_catalog, pg_temp": let its function name the schema of what it uses, or SET a search_path of its own'
      )
    })
  )

  it.scoped("Migrations say so where they lost the lock that keeps others out", () =>
    Effect.gen(function* () {
      const url = yield* emptyDatabase
      const logged: Array<string> = []
      const logger = Logger.make(({ message }) => void logged.push(String(message)))
      yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql.unsafe(`
          CREATE FUNCTION public.end_guard() RETURNS event_trigger LANGUAGE plpgsql AS $$
            BEGIN
              PERFORM pg_terminate_backend(pid, 10000)
              FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
              WHERE locktype = 'advisory' AND datname = current_database() AND pid <> pg_backend_pid();
            END
          $$;
          CREATE EVENT TRIGGER end_guard ON ddl_command_end WHEN TAG IN ('CREATE SCHEMA') EXECUTE FUNCTION public.end_guard();
        `)
        expect(yield* Migrations.postgres).toContain("0001_outbox")
      }).pipe(
        Effect.provide(PgClient.layer({ url: Redacted.make(url) })),
        Effect.provide(
          Layer.merge(Logger.replace(Logger.defaultLogger, logger), Logger.minimumLogLevel(LogLevel.Warning))
        )
      )
      expect(logged.join("\n")).toContain("lost")
    })
  )

  it.scoped(
    "Migrations let a program start and publish while ClickHouse is away, say so, and make the table when it is back",
    () =>
      Effect.gen(function* () {
        const databases = yield* Environment.Environment
        const CLICKHOUSE_TABLE = "events_of_program"
        const logged: Array<string> = []
        const logger = Logger.make(({ message }) => void logged.push(String(message)))
        const proxy = yield* Proxy.make(String(databases.CLICKHOUSE_URL))
        // Connections are taken, and nothing is ever answered.
        yield* proxy.freeze(true)
        const variables = {
          ...databases,
          CLICKHOUSE_TABLE,
          CLICKHOUSE_URL: proxy.url,
          CLICKHOUSE_REQUEST_TIMEOUT: "5 seconds"
        }
        const Live = EventPublisher.layerConfig.pipe(
          Layer.provideMerge(Migrations.layerConfig),
          Layer.provideMerge(Layer.merge(Postgres.layerConfig, ClickHouse.layerConfig)),
          Layer.provide(Layer.setConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(variables))))),
          Layer.provide([Logger.replace(Logger.defaultLogger, logger), Logger.minimumLogLevel(LogLevel.Warning)])
        )
        yield* Effect.gen(function* () {
          yield* EventPublisher.publish(Event.make({ eventType: "published_early", eventContext: {} }))
          const sql = yield* SqlClient.SqlClient
          expect(yield* sql`SELECT FROM outbox.event WHERE event_type = 'published_early'`).toHaveLength(1)
          yield* until(
            Effect.sync(() => logged.join("\n")),
            (text) => text.includes("ClickHouse was not migrated, which is tried again")
          )
          yield* proxy.freeze(false)
          yield* proxy.cut
        }).pipe(
          Effect.zipRight(
            until(
              Effect.flatMap(ClickHouse.ClickHouse, (server) =>
                Effect.orElseSucceed(
                  server.query(
                    "SELECT name FROM system.tables WHERE database = currentDatabase() AND name = {table:String}",
                    {
                      table: CLICKHOUSE_TABLE
                    }
                  ),
                  () => []
                )
              ),
              (rows) => rows.length === 1
            )
          ),
          Effect.provide(Live)
        )
      })
  )
})
