/** Both servers, two relays, and those who look on: everything that lives through all rounds of a run. */
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as SqlClient from "@effect/sql/SqlClient"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Redacted from "effect/Redacted"
import * as BatchFailures from "../../src/BatchFailures.ts"
import * as ClickHouse from "../../src/ClickHouse.ts"
import * as Config from "../../src/Config.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import * as EmbeddedClickHouse from "../../src/embedded/EmbeddedClickHouse.ts"
import * as EmbeddedPostgres from "../../src/embedded/EmbeddedPostgres.ts"
import type { EmbeddedServer } from "../../src/embedded/EmbeddedServer.ts"
import * as Migrations from "../../src/Migrations.ts"
import * as OutboxStore from "../../src/OutboxStore.ts"
import * as Postgres from "../../src/Postgres.ts"
import * as Programs from "../support/programs.ts"
import * as Proxy from "../support/proxy.ts"
import * as Interference from "./interference.ts"
import type { Server } from "./points.ts"
import * as Relays from "./relays.ts"
import { APPLICATION } from "./writers.ts"

export class World extends Context.Tag("chaos/World")<
  World,
  {
    readonly relays: ReadonlyArray<Relays.Relay>
    readonly interferer: Interference.Interferer
    /** Between the writers and Postgres. */
    readonly writersProxy: Proxy.Proxy
    /** What writers through the library use: connections of their own. */
    readonly writersContext: Context.Context<SqlClient.SqlClient | EventPublisher.EventPublisher>
    /** Ends a server, leaves it so for a while, and starts it again. */
    readonly crash: (server: Server, signal: "SIGKILL" | "SIGQUIT", millis: number) => Effect.Effect<void>
    /** How often ClickHouse has ended by itself, and was started again. */
    readonly clickHouseEnded: () => number
    /** Relays that ended by themselves since this was called last. */
    readonly takeEnded: () => ReadonlyArray<Relays.Ended>
  }
>() {}

const configuredBy = (variables: Readonly<Record<string, string>>) =>
  Layer.setConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(variables))))

/**
 * A marker is written in each transaction of the application: it says whether the transaction was committed. The history
 * is each change of the manifest but for renewed leases; relays tidy the manifest up within a round.
 */
const SCHEMA = `
  CREATE SCHEMA chaos;
  CREATE TABLE chaos.marker (id uuid PRIMARY KEY, tx_id xid8 NOT NULL DEFAULT pg_current_xact_id());
  CREATE TABLE chaos.history (
    id bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    batch outbox.batch NOT NULL
  );
  CREATE FUNCTION chaos.remember() RETURNS trigger LANGUAGE plpgsql
  AS $$ BEGIN INSERT INTO chaos.history (batch) VALUES (NEW); RETURN NULL; END $$;
  CREATE TRIGGER inserted AFTER INSERT ON outbox.batch FOR EACH ROW EXECUTE FUNCTION chaos.remember();
  CREATE TRIGGER updated AFTER UPDATE ON outbox.batch FOR EACH ROW
  WHEN ((OLD.state, OLD.lease_id, OLD.attempts, OLD.repair_token) IS DISTINCT FROM
    (NEW.state, NEW.lease_id, NEW.attempts, NEW.repair_token))
  EXECUTE FUNCTION chaos.remember()`

/**
 * The engine in a library ends when a client resets a connection at the wrong moment, where a server would log it:
 * https://github.com/ClickHouse/ClickHouse/issues/115666. One more crash that relays have to survive.
 */
const isRunning = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

const make = (servers: Readonly<Record<Server, EmbeddedServer>>) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const { cli: program } = yield* Programs.make
    yield* Migrations.postgres
    yield* Effect.flatMap(Config.clickHouse, Migrations.clickHouse)
    yield* sql.unsafe(SCHEMA)
    const ended: Array<Relays.Ended> = []
    const writersProxy = yield* Proxy.make(servers.postgres.url)
    const writersConfig = yield* Config.postgres
    const writersContext = yield* Layer.build(
      EventPublisher.layer({ environment: "chaos" }).pipe(
        Layer.provideMerge(
          Layer.fresh(Postgres.layer({ ...writersConfig, url: Redacted.make(writersProxy.url) }, APPLICATION))
        )
      )
    )
    const relays = yield* Effect.all(
      [0, 1].map(() =>
        Relays.make({
          program,
          postgresUrl: servers.postgres.url,
          clickhouseUrl: servers.clickhouse.url,
          onEnd: (end) => ended.push(end)
        })
      )
    )
    const interferer = yield* Interference.make(relays)

    const alone = yield* Effect.makeSemaphore(1)
    const crash = (server: Server, signal: "SIGKILL" | "SIGQUIT", millis: number) =>
      alone.withPermits(1)(
        Effect.gen(function* () {
          if (signal === "SIGKILL") yield* servers[server].kill
          else process.kill(yield* servers[server].pid, signal)
          yield* Effect.sleep(millis)
          yield* Effect.orDie(servers[server].restart)
        })
      )
    let clickHouseEnded = 0
    const revive = Effect.gen(function* () {
      if (isRunning(yield* servers.clickhouse.pid)) return
      clickHouseEnded++
      yield* Effect.orDie(servers.clickhouse.restart)
    })
    yield* Effect.forkScoped(Effect.forever(Effect.delay(alone.withPermits(1)(revive), "100 millis")))

    return {
      relays,
      interferer,
      crash,
      clickHouseEnded: () => clickHouseEnded,
      writersProxy,
      writersContext,
      takeEnded: () => ended.splice(0)
    }
  })

/** Fresh servers, and the services of those who look on, straight to them. */
export const layer = Layer.unwrapScoped(
  Effect.gen(function* () {
    const [postgres, clickhouse] = yield* Effect.all([EmbeddedPostgres.make(), EmbeddedClickHouse.make()], {
      concurrency: "unbounded"
    })
    const variables = { DATABASE_URL: postgres.url, CLICKHOUSE_URL: clickhouse.url }
    const world = Layer.scoped(World, make({ postgres, clickhouse }))
    return Layer.mergeAll(OutboxStore.layerConfig, BatchFailures.layer).pipe(
      Layer.provideMerge(world),
      Layer.provideMerge(Layer.mergeAll(Postgres.layerConfig, ClickHouse.layerConfig)),
      Layer.provideMerge(NodeContext.layer),
      Layer.provideMerge(Logger.minimumLogLevel(LogLevel.Error)),
      Layer.provide(configuredBy(variables))
    )
  })
)
