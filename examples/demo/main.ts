/**
 * `npm run demo`: the whole way of an event, on a machine that has nothing but Node.
 *
 * Starts Postgres, ClickHouse and the application of `examples/users` with its relay. Sends it users, and requests that
 * must fail; shows how far their events have come; asks ClickHouse about them; and compares what the two databases have.
 * Until Ctrl-C it serves the console, with a few events in it that ClickHouse refuses. Progress goes to standard error,
 * results to standard output. Data is kept for the next run.
 */
import * as Command from "@effect/cli/Command"
import * as Options from "@effect/cli/Options"
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Console, DateTime, Effect, Layer, Logger, LogLevel, Option } from "effect"
import * as Application from "./Application.ts"
import { play } from "./Play.ts"

// No connection is kept: one that ran out of time while the machine slept would end the demo.
const http = NodeHttpClient.layerWithoutAgent.pipe(Layer.provide(NodeHttpClient.makeAgentLayer({ keepAlive: false })))

const wholeNumber = (name: string, minimum: number, maximum: number) =>
  Options.integer(name).pipe(
    Options.filterMap(
      Option.liftPredicate((n) => n >= minimum && n <= maximum),
      `--${name} must be a whole number from ${minimum} to ${maximum}`
    )
  )

const port = (name: string) =>
  wholeNumber(name, 1, 65_535).pipe(Options.withDescription("A free port unless it is given."), Options.optional)

const demo = Command.make(
  "demo",
  {
    data: Options.text("data").pipe(
      Options.withPseudoName("folder"),
      Options.withDefault(".data/demo"),
      Options.withDescription("Folder that keeps the data; made where it does not exist.")
    ),
    postgresPort: port("postgres-port"),
    clickhousePort: port("clickhouse-port"),
    consolePort: port("console-port"),
    once: Options.boolean("once").pipe(
      Options.withDescription("End by itself. Fails unless every event has arrived, once.")
    ),
    events: wholeNumber("events", 1, 1_000_000_000).pipe(
      Options.withDefault(20_000),
      Options.withDescription("How many events to publish with --once.")
    )
  },
  ({ clickhousePort, consolePort, data, events, once, postgresPort }) =>
    Effect.gen(function* () {
      const run = `demo-${DateTime.formatIso(yield* DateTime.now).replaceAll(/[-:.]/g, "")}`
      yield* play(run, once ? Option.some(events) : Option.none()).pipe(
        Effect.provide(
          Application.layer({
            data,
            postgresPort: Option.getOrUndefined(postgresPort),
            clickhousePort: Option.getOrUndefined(clickhousePort),
            // A run with an end has nobody who looks at the console.
            consolePort: once ? "off" : Option.getOrUndefined(consolePort),
            environment: run
          })
        ),
        Effect.provide(http)
      )
    }).pipe(
      Effect.tapError((error) => Console.error(`demo: ${error.message}`)),
      Effect.tapDefect((cause) => Effect.logError(cause))
    )
).pipe(Command.withDescription("Publishes events through an application, and follows them into ClickHouse."))

// Ctrl-C comes twice, from the terminal and from npm: the second must not cut off what the first has begun to stop.
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => {})

Command.run(demo, { name: "demo", version: "0.1.0" })(process.argv).pipe(
  Effect.provide([
    NodeContext.layer,
    Logger.minimumLogLevel(LogLevel.Warning),
    Logger.replace(Logger.defaultLogger, Logger.withConsoleError(Logger.stringLogger))
  ]),
  NodeRuntime.runMain({ disableErrorReporting: true, disablePrettyLogger: true })
)
