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
import type { Teardown } from "@effect/platform/Runtime"
import * as Cause from "effect/Cause"
import * as ConfigError from "effect/ConfigError"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import { batches } from "./Cli/batches.ts"
import { failures } from "./Cli/failures.ts"
import { incidents } from "./Cli/incidents.ts"
import { migrate } from "./Cli/migrate.ts"
import { pause, resume } from "./Cli/pause.ts"
import { withPlainText } from "./Cli/plainText.ts"
import { publish } from "./Cli/publish.ts"
import { relay } from "./Cli/relay.ts"
import { restamp } from "./Cli/restamp.ts"
import { status } from "./Cli/status.ts"
import { visibleLines } from "./Cli/text.ts"
import { verify } from "./Cli/verify.ts"
import { where } from "./Cli/where.ts"
import * as Config from "./Config.ts"
import * as Logging from "./internal/logging.ts"
import { version } from "./internal/version.ts"
import { ForeignDatabase } from "./OutboxStore.ts"

const command = Command.make("clickhouse-outbox").pipe(
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
  Command.run(command, { name: "clickhouse-outbox", version })(argv.map(withoutGuess)).pipe(
    // A relay cannot go on where its outbox has been moved, nor wait for it.
    Effect.catchSomeDefect((defect) =>
      defect instanceof ForeignDatabase ? Option.some(Effect.fail(defect)) : Option.none()
    ),
    Effect.tapDefect((bug) => Effect.logFatal("A bug in clickhouse-outbox", bug)),
    Effect.provide(Logging.layerConfig),
    Effect.tapError(report),
    withPlainText
  )

/**
 * A flag alone says yes. @effect/cli would take an argument after it for its value, if it could be one: the 1 of
 * `failures show --json 1` is a failure, not a yes.
 */
const withoutGuess = (argument: string): string => (FLAGS.has(argument) ? `${argument}=true` : argument)

const FLAGS = new Set(["--json", "--all", "--yes", "--replay", "--repair", "--until-empty"])

type Failure = ConfigError.ConfigError | ValidationError.ValidationError | Error

const report = (error: Failure) => {
  if (ValidationError.isValidationError(error)) return Effect.void
  return Console.error(visibleLines(ConfigError.isConfigError(error) ? Config.explain(error) : error.message))
}

/** What shells report for a program that SIGINT has ended. */
const INTERRUPTED = 130

/**
 * What the process exits with: 0 if the command did what it was asked, 1 if it could not, 130 if a signal came before it
 * had, or what the command has set. A relay was asked to run until a signal comes.
 *
 * @since 0.1.0
 * @category running
 */
export const teardown: Teardown = (exit, onExit) => {
  const interrupted = Exit.isFailure(exit) && Cause.isInterruptedOnly(exit.cause)
  if (interrupted) return onExit(Number(process.exitCode ?? INTERRUPTED))
  onExit(Exit.isFailure(exit) ? 1 : Number(process.exitCode ?? 0))
}
