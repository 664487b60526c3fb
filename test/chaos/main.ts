/**
 * `npm run chaos`: relays, databases and the connections between them are killed, cut, frozen and slowed, at random
 * moments and at named points, while writers write. After each round a judge compares the writers' own journal with
 * ClickHouse. The first event that is missing, doubled, changed, or delivered though rolled back ends the run.
 *
 * The schedule of faults and the writers' plans are functions of the seed and the round's number. When exactly a fault
 * meets a relay is not.
 */
import { randomBytes } from "node:crypto"
import { writeFile } from "node:fs/promises"
import * as Command from "@effect/cli/Command"
import * as Options from "@effect/cli/Options"
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Console from "effect/Console"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import { pointNames } from "./points.ts"
import { faultCounts, neverReached, print, printRound, type Report, totals } from "./report.ts"
import { run } from "./run.ts"
import { sweep, type Tried } from "./settings/sweep.ts"
import type { Outcome } from "./settings/trial.ts"
import * as World from "./world.ts"

const wholeNumber = (name: string, minimum: number) =>
  Options.integer(name).pipe(
    Options.filterMap(
      Option.liftPredicate((n) => n >= minimum),
      `--${name} must be a whole number of at least ${minimum}`
    )
  )

const write = (json: Option.Option<string>, report: Report) =>
  Option.match(json, {
    onNone: () => Effect.void,
    onSome: (file) =>
      Effect.promise(() =>
        writeFile(
          file,
          JSON.stringify({ seed: report.seed, ...totals(report), byKind: faultCounts(report), report }, null, 1)
        )
      )
  })

/** What no longer happens, or is no longer recognised, is not proved. */
class PointsMissed extends Data.TaggedError("PointsMissed")<{ readonly points: Arr.NonEmptyReadonlyArray<string> }> {
  override get message(): string {
    return `Planned again and again, and never reached: ${this.points.join(", ")}. test/chaos/points.ts says how each is recognised.`
  }
}

class SettingsMatter extends Data.TaggedError("SettingsMatter")<{ readonly settings: ReadonlyArray<string> }> {
  override get message(): string {
    return `Events were lost, doubled, changed or condemned by: ${this.settings.join(", ")}`
  }
}

const sweepAll = ({ json, only, together }: { json: Option.Option<string>; only: RegExp; together: number }) =>
  Effect.gen(function* () {
    const started = Date.now()
    const tried: Array<Tried> = []
    const report = Effect.suspend(() => {
      const count = (is: Outcome["is"]) => tried.filter(({ outcome }) => outcome.is === is).length
      const counts = { same: count("the same"), refused: count("refused"), wrong: count("wrong") }
      const seconds = Math.round((Date.now() - started) / 1_000)
      return Effect.as(
        Option.match(json, {
          onNone: () => Effect.void,
          onSome: (file) =>
            Effect.promise(() => writeFile(file, JSON.stringify({ seconds, ...counts, tried }, null, 1)))
        }),
        `${tried.length} values in ${seconds} s: ${counts.same} change nothing, ${counts.refused} are refused, ${counts.wrong} lost or changed events`
      )
    })
    yield* sweep({
      lanes: 4,
      together,
      only,
      onTried: (one, of) =>
        Effect.gen(function* () {
          tried.push(one)
          if (one.outcome.is === "refused") yield* Console.log(`refused  ${one.setting}: ${one.outcome.says}`)
          if (one.outcome.is === "wrong")
            yield* Console.log(`WRONG    ${one.setting}: ${one.outcome.violations.join("; ")}`)
          // Written now and then, so that a run which is broken off leaves what it has found.
          if (tried.length % 100 === 0)
            yield* Effect.flatMap(report, (text) => Console.log(`         ${text}, of ${of}`))
        })
    })
    yield* Effect.flatMap(report, Console.log)
    const wrong = tried.filter(({ outcome }) => outcome.is === "wrong").map(({ setting }) => setting)
    if (wrong.length > 0) return yield* new SettingsMatter({ settings: wrong })
  })

/** A round that went wrong says so itself. Anything else is a fault of this program. */
const explain = (cause: Cause.Cause<{ readonly message: string }>): string =>
  Option.match(Cause.failureOption(cause), {
    onNone: () => Cause.pretty(cause, { renderErrorCause: true }),
    onSome: ({ message }) => message
  })

const chaos = Command.make(
  "chaos",
  {
    rounds: wholeNumber("rounds", 1).pipe(
      Options.withDefault(50),
      Options.withDescription("How many rounds, of some five seconds each.")
    ),
    seed: Options.text("seed").pipe(
      Options.optional,
      Options.withDescription("Makes the schedule; a random one unless it is given.")
    ),
    first: wholeNumber("first", 0).pipe(
      Options.withDefault(0),
      Options.withDescription("The number of the first round, to go on with a seed.")
    ),
    round: wholeNumber("round", 0).pipe(Options.optional, Options.withDescription("Only this round of the seed.")),
    points: Options.text("points").pipe(
      Options.withDefault(""),
      Options.filterMap(
        (start) =>
          Option.liftPredicate(
            pointNames.filter((name) => name.startsWith(start)),
            Arr.isNonEmptyArray
          ),
        `--points must be how some of these begin: ${pointNames.join(", ")}`
      ),
      Options.withDescription(
        "Only the points whose names begin like this, such as slot:, which makes another schedule."
      )
    ),
    settings: Options.boolean("settings").pipe(
      Options.withDescription(
        "No rounds, but every setting that a user of ClickHouse's or a role of Postgres' may have, as the servers list them, at other values than its default."
      )
    ),
    only: Options.text("only").pipe(
      Options.withDefault(""),
      Options.withDescription(
        "With --settings: those that this regular expression finds, such as 'Postgres .*timeout'."
      )
    ),
    together: wholeNumber("together", 1).pipe(
      Options.withDefault(8),
      Options.withDescription(
        "With --settings: how many are tried at once. A group that is refused or changes something is halved until one is left."
      )
    ),
    json: Options.text("json").pipe(Options.optional, Options.withDescription("A file to write the report to."))
  },
  ({ first, json, only, points, round, rounds, seed: given, settings, together }) =>
    Effect.gen(function* () {
      if (settings) return yield* sweepAll({ json, only: new RegExp(only), together })
      const seed = Option.getOrElse(given, () => randomBytes(4).toString("hex"))
      yield* Console.log(`seed ${seed}`)
      const report = yield* run({
        seed,
        points,
        rounds: Option.match(round, { onNone: () => Arr.range(first, first + rounds - 1), onSome: Arr.of }),
        // Written each time, so that a run which is broken off leaves what it has found.
        onRound: (played, report) => Effect.zipRight(Console.log(printRound(played)), write(json, report))
      }).pipe(Effect.provide(World.layer))
      yield* Console.log(`\n${print(report)}`)
      const missed = neverReached(report)
      if (Arr.isNonEmptyReadonlyArray(missed)) return yield* new PointsMissed({ points: missed })
    }).pipe(
      Effect.tapErrorCause((cause) =>
        Cause.isInterruptedOnly(cause) ? Effect.void : Console.error(`chaos: ${explain(cause)}`)
      )
    )
).pipe(Command.withDescription("Proves that nothing is lost and nothing doubled, whatever is killed, cut or frozen."))

// Ctrl-C comes twice, from the terminal and from npm: the second must not cut off what the first has begun to stop.
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => {})

Command.run(chaos, { name: "chaos", version: "0.1.0" })(process.argv).pipe(
  Effect.provide([
    NodeContext.layer,
    Logger.replace(Logger.defaultLogger, Logger.withConsoleError(Logger.stringLogger))
  ]),
  NodeRuntime.runMain({
    disableErrorReporting: true,
    disablePrettyLogger: true,
    // What was cut short must not look like what was proved.
    teardown: (exit, onExit) => onExit(Exit.isSuccess(exit) ? 0 : Cause.isInterruptedOnly(exit.cause) ? 130 : 1)
  })
)
