/** The application of `examples/users`, with its relay, on servers from npm packages. */
import { createServer } from "node:http"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { BatchFailures, Event, EventLog, Operations, OperatorServer, OutboxStore, Relay } from "clickhouse-outbox"
import { EmbeddedClickHouse, EmbeddedPostgres } from "clickhouse-outbox/embedded"
import { ConfigProvider, Effect, Layer } from "effect"
import { DatabasesLive } from "../users/Databases.ts"
import { UserCreated } from "../users/Events.ts"
import { HttpLive } from "../users/Http.ts"

interface Options {
  /** The folder that keeps both servers' data. */
  readonly data: string
  /** Any free ports where none are given. */
  readonly postgresPort: number | undefined
  readonly clickhousePort: number | undefined
  /** The console's port; "off" for no console. */
  readonly consolePort: number | "off" | undefined
  /** The environment that its events carry. */
  readonly environment: string
}

/** Both servers, and the configuration that leads to them. Nothing else is read from the shell's environment. */
const ServersLive = ({ clickhousePort, consolePort = 0, data, environment, postgresPort }: Options) =>
  Layer.unwrapScoped(
    Effect.gen(function* () {
      const [postgres, clickhouse] = yield* Effect.all(
        [
          EmbeddedPostgres.make({ dataDir: `${data}/postgres`, port: postgresPort }),
          EmbeddedClickHouse.make({ dataDir: `${data}/clickhouse`, port: clickhousePort })
        ],
        { concurrency: "unbounded" }
      )
      const variables = {
        DATABASE_URL: postgres.url,
        CLICKHOUSE_URL: clickhouse.url,
        OUTBOX_ENVIRONMENT: environment,
        OUTBOX_HTTP_PORT: String(consolePort)
      }
      return Layer.setConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(variables))))
    })
  )

const ConsoleLive = OperatorServer.layerConfig.pipe(
  Layer.provideMerge(Relay.layerConfig),
  Layer.provide([BatchFailures.layer, Operations.layer, EventLog.layerConfig]),
  Layer.provide(Layer.succeed(Event.Definitions, [UserCreated]))
)

/** As in `examples/users/main.ts`, but on any free port, and with the console. */
export const layer = (options: Options) =>
  Layer.merge(HttpLive, ConsoleLive).pipe(
    Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 })),
    Layer.provideMerge(OutboxStore.layerConfig),
    Layer.provideMerge(DatabasesLive),
    Layer.provideMerge(ServersLive(options))
  )
