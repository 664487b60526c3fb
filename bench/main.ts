/**
 * `npm run bench`: this project against what else carries events from Postgres to ClickHouse, and what its promises
 * cost. Each section's file says what it measures, and why that is fair.
 *
 * Both servers come out of npm packages, are started for it and leave nothing behind, unless the environment names two
 * with `DATABASE_URL` and `CLICKHOUSE_URL`: their processes are not measured then. Postgres has its own defaults but
 * for checkpoints, which come only where the benchmark makes them: by chance they would hit one run and not another.
 *
 * Progress goes to standard error, medians to standard output, every run to `bench/results/throughput.json`, and charts
 * beside it; those of a run with `--quick` or `--only` to folders of their own.
 */
import * as Command from "@effect/cli/Command"
import * as Options from "@effect/cli/Options"
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Array, Cause, Console, Effect, Exit, Logger, LogLevel, Option } from "effect"
import { section as backlog } from "./backlog.ts"
import * as Databases from "./databases.ts"
import { describe, write } from "./harness/results.ts"
import { keyOf, type Section } from "./harness/Section.ts"
import { section as idle } from "./idle.ts"
import { section as latency } from "./latency/section.ts"
import { section as publish } from "./publish/section.ts"
import { section as relays } from "./relays.ts"
import { section as rotation } from "./rotation/section.ts"
import { section as throughput } from "./throughput/section.ts"

const SECTIONS: ReadonlyArray<Section> = [throughput, relays, publish, latency, rotation, backlog, idle]

const keysOf = ({ name, parts }: Section) => [name, ...parts].map(keyOf)

const KEYS = SECTIONS.flatMap(keysOf)

const POSTGRES = { max_wal_size: "64GB", checkpoint_timeout: "1d" }

const QUICK_EVENTS = 50_000

const positive = (name: string) =>
  Options.integer(name).pipe(
    Options.filterMap(
      Option.liftPredicate((n) => n >= 1),
      `--${name} must be a whole number of at least 1`
    )
  )

const only = Options.text("only").pipe(
  Options.map((text) => text.split(",").map(keyOf)),
  Options.filterMap(
    Option.liftPredicate((keys) => keys.every((key) => KEYS.includes(key))),
    `--only must name some of: ${KEYS.join(", ")}`
  ),
  Options.withDefault(Array.empty<string>()),
  Options.withDescription(`Only these, separated by commas: ${KEYS.join(", ")}.`)
)

const report = (cause: Cause.Cause<unknown>) =>
  Cause.isInterruptedOnly(cause)
    ? Effect.void
    : Console.error(`bench: ${Cause.pretty(cause, { renderErrorCause: true })}`)

const bench = Command.make(
  "bench",
  {
    events: positive("events").pipe(
      Options.optional,
      Options.withDescription("Events that each contestant carries, the slow ones fewer. 1,000,000 unless --quick.")
    ),
    runs: positive("runs").pipe(
      Options.optional,
      Options.withDescription("Runs of each, of which the tables show the median. 3 unless --quick.")
    ),
    quick: Options.boolean("quick").pipe(Options.withDescription("Fewer events, one run: under three minutes.")),
    only
  },
  ({ events, only, quick, runs }) =>
    Effect.gen(function* () {
      const settings = {
        quick,
        only,
        runs: Option.getOrElse(runs, () => (quick ? 1 : 3)),
        events: Option.getOrElse(events, () => (quick ? QUICK_EVENTS : 1_000_000))
      }
      const servers = yield* Databases.given(POSTGRES)
      const wanted = SECTIONS.filter(
        (section) => only.length === 0 || keysOf(section).some((key) => only.includes(key))
      )
      const [failed, done] = yield* Effect.partition(wanted, (section) =>
        Effect.gen(function* () {
          yield* Console.error(`${section.name}:`)
          const outcome = yield* Effect.scoped(section.run(servers, settings))
          for (const { table, title } of outcome.tables) yield* Console.log(`${title}\n\n${table}\n`)
          return [section.name, outcome] as const
        }).pipe(Effect.tapErrorCause(report))
      )
      yield* write(settings, yield* describe(servers, POSTGRES), done)
      const errors = failed.length + done.flatMap(([_, { errors = [] }]) => errors).length
      if (errors > 0) yield* Effect.fail(new Error(`${errors} runs were errors, not times`))
    }).pipe(Effect.scoped, Effect.tapErrorCause(report))
).pipe(
  Command.withDescription(
    "Measures this project against what else carries events from Postgres to ClickHouse, and what its promises cost."
  )
)

// Ctrl-C comes twice, from the terminal and from npm: the second must not cut off what the first has begun to stop.
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => {})

// A flag alone means true, whatever comes after it.
const argv = Array.map(process.argv, (argument) => (argument === "--quick" ? "--quick=true" : argument))

Command.run(bench, { name: "bench", version: "0.1.0" })(argv).pipe(
  Effect.provide([
    NodeContext.layer,
    Logger.minimumLogLevel(LogLevel.Error),
    Logger.replace(Logger.defaultLogger, Logger.withConsoleError(Logger.stringLogger))
  ]),
  NodeRuntime.runMain({
    disableErrorReporting: true,
    disablePrettyLogger: true,
    // An interrupted run must not look like a measured one.
    teardown: (exit, onExit) => onExit(Exit.isSuccess(exit) ? 0 : Cause.isInterruptedOnly(exit.cause) ? 130 : 1)
  })
)
