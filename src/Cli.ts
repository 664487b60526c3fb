/**
 * The command line `clickhouse-outbox`.
 *
 * Results go to standard output, logs and errors to standard error. What can go wrong ends in one message and exit code
 * 1; only a bug shows a stack. Configured by the environment, of which each command asks for what it needs: see
 * docs/configuration.md.
 *
 * @since 0.1.0
 */
import type { CliApp } from "@effect/cli/CliApp"
import * as Command from "@effect/cli/Command"
import * as ValidationError from "@effect/cli/ValidationError"
import type * as FileSystem from "@effect/platform/FileSystem"
import { makeRunMain, type Teardown } from "@effect/platform/Runtime"
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as Cause from "effect/Cause"
import * as ConfigError from "effect/ConfigError"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import { batches } from "./Cli/batches.ts"
import { failures } from "./Cli/failures.ts"
import { incidents } from "./Cli/incidents.ts"
import { migrate, restamp } from "./Cli/migrate.ts"
import { normalize } from "./Cli/options.ts"
import { pause, resume, status, where } from "./Cli/outbox.ts"
import { visibleLines, withPlainText } from "./Cli/print.ts"
import { publish } from "./Cli/publish.ts"
import { relay } from "./Cli/relay.ts"
import { verify } from "./Cli/verify.ts"
import * as Config from "./Config.ts"
import * as Logging from "./internal/logging.ts"
import { version } from "./internal/version.ts"
import { ForeignDatabase } from "./OutboxStore.ts"
import { SinkError } from "./SinkError.ts"

/** @internal */
export const command = Command.make("clickhouse-outbox").pipe(
  Command.withDescription(
    "Carries events from PostgreSQL to ClickHouse. DATABASE_URL and CLICKHOUSE_URL say where they are; docs/configuration.md lists all variables."
  ),
  Command.withSubcommands([
    migrate,
    relay,
    publish,
    status,
    failures,
    where,
    batches,
    incidents,
    pause,
    resume,
    restamp,
    verify
  ])
)

/**
 * Runs a command, and says what went wrong. Fails for its exit code only.
 *
 * @param argv as in `process.argv`
 * @since 0.1.0
 * @category running
 */
export const run = (
  argv: ReadonlyArray<string>
): Effect.Effect<void, Failure, CliApp.Environment | FileSystem.FileSystem> =>
  Command.run(command, { name: "clickhouse-outbox", version })(normalize(argv)).pipe(
    // A relay cannot go on where its outbox has been moved, nor wait for it.
    Effect.catchSomeDefect((defect) =>
      defect instanceof ForeignDatabase ? Option.some(Effect.fail(defect)) : Option.none()
    ),
    Effect.tapDefect((bug) => Effect.logFatal("A bug in clickhouse-outbox", bug)),
    Effect.provide(Logging.layerConfig),
    Effect.tapError(report),
    withPlainText
  )

type Failure = ConfigError.ConfigError | ValidationError.ValidationError | Error

const report = (error: Failure) =>
  // @effect/cli has printed it.
  ValidationError.isValidationError(error) ? Effect.void : Console.error(visibleLines(messageOf(error)))

const messageOf = (error: ConfigError.ConfigError | Error): string => {
  if (ConfigError.isConfigError(error)) return Config.explain(error)
  // Its message is for logs, and leaves out what may quote an event. Commands that end with one send none.
  return error instanceof SinkError && error.code !== undefined ? `ClickHouse refused. ${error.reason}` : error.message
}

/** What shells report for a program that SIGINT has ended. */
const EXIT_INTERRUPTED = 130

/**
 * What the process exits with: 0 if the command did what it was asked, 1 if it could not, 130 if a signal came before it
 * had, or what the command has set. A relay was asked to run until a signal comes.
 */
const teardown: Teardown = (exit, onExit) => {
  const interrupted = Exit.isFailure(exit) && Cause.isInterruptedOnly(exit.cause)
  if (interrupted) return onExit(Number(process.exitCode ?? EXIT_INTERRUPTED))
  onExit(Exit.isFailure(exit) ? 1 : Number(process.exitCode ?? 0))
}

/** `NodeRuntime.runMain` for a signal that may have come already. */
const runUntil = (signalled: Promise<void>) =>
  makeRunMain(({ fiber, teardown }) => {
    const keepAlive = setInterval(() => {}, 2 ** 31 - 1)
    let ended = false
    signalled.then(() => {
      ended = true
      fiber.unsafeInterruptAsFork(fiber.id())
    })
    fiber.addObserver((exit) => {
      clearInterval(keepAlive)
      teardown(exit, (code) => {
        if (ended || code !== 0) process.exit(code)
      })
    })
  })

/**
 * Runs a command as the process, whose end is the command's. Reading the arguments is not interrupted: only the command
 * knows what a signal means to it, so it begins, and is interruptible from there on.
 *
 * @param argv as in `process.argv`
 * @param signalled when the process is asked to end
 * @since 0.1.0
 * @category running
 */
export const main = (argv: ReadonlyArray<string>, signalled: Promise<void>): void =>
  runUntil(signalled)(run(argv).pipe(Effect.provide(NodeContext.layer), Effect.uninterruptible), {
    disableErrorReporting: true,
    disablePrettyLogger: true,
    teardown
  })
