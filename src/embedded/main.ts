/**
 * `npm run databases`: Postgres and ClickHouse in the foreground, until Ctrl-C. Standard output gets their addresses,
 * one a line and ready for an `.env` file; standard error gets everything else.
 *
 * @internal
 */
import * as Command from "@effect/cli/Command"
import * as Options from "@effect/cli/Options"
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as EmbeddedClickHouse from "./EmbeddedClickHouse.ts"
import * as EmbeddedPostgres from "./EmbeddedPostgres.ts"
import type { EmbeddedServerError } from "./EmbeddedServer.ts"

class DatabaseEnded extends Data.TaggedError("DatabaseEnded")<{
  readonly server: EmbeddedServerError["server"]
  readonly log: string
}> {
  override get message(): string {
    return `${this.server} has ended, so both are stopped. Its log is ${this.log}`
  }
}

const data = Options.text("data").pipe(
  Options.withDefault(".data"),
  Options.withDescription("Folder that keeps the data; made where it does not exist.")
)

const port = (name: string) =>
  Options.integer(name).pipe(Options.optional, Options.withDescription("A free port unless it is given."))

const databases = Command.make(
  "databases",
  { data, postgresPort: port("postgres-port"), clickhousePort: port("clickhouse-port") },
  ({ data, postgresPort, clickhousePort }) =>
    Effect.gen(function* () {
      const [postgres, clickhouse] = yield* Effect.all(
        [
          EmbeddedPostgres.make({ dataDir: `${data}/postgres`, port: Option.getOrUndefined(postgresPort) }),
          EmbeddedClickHouse.make({ dataDir: `${data}/clickhouse`, port: Option.getOrUndefined(clickhousePort) })
        ],
        { concurrency: "unbounded" }
      )
      yield* Console.log(`DATABASE_URL=${postgres.url}\nCLICKHOUSE_URL=${clickhouse.url}`)
      yield* Console.error(`Postgres and ClickHouse are running, with their data in ${data}. Ctrl-C stops them.`)
      // One without the other is of no use, and whoever started them has to know.
      yield* Effect.raceFirst(
        Effect.zipRight(
          postgres.ended,
          new DatabaseEnded({ server: "Postgres", log: `${data}/postgres/postgres.log` })
        ),
        Effect.zipRight(
          clickhouse.ended,
          new DatabaseEnded({ server: "ClickHouse", log: `${data}/clickhouse/clickhouse.log` })
        )
      )
    }).pipe(
      Effect.scoped,
      Effect.catchTag("EmbeddedServerError", "DatabaseEnded", (error) =>
        Effect.zipRight(Console.error(error.message), Effect.fail(1))
      )
    )
).pipe(Command.withDescription("Runs Postgres and ClickHouse from npm packages, until Ctrl-C."))

// Ctrl-C comes twice, from the terminal and from npm: the second must not cut off what the first has begun to stop.
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => {})

Command.run(databases, { name: "databases", version: "0.1.0" })(process.argv).pipe(
  Effect.provide(NodeContext.layer),
  Effect.provide(Logger.replace(Logger.defaultLogger, Logger.withConsoleError(Logger.stringLogger))),
  NodeRuntime.runMain({ disableErrorReporting: true, disablePrettyLogger: true })
)
