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
    json: Options.text("json").pipe(Options.optional, Options.withDescription("A file to write the report to."))
  },
  ({ first, json, points, round, rounds, seed: given }) =>
    Effect.gen(function* () {
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
