/** Rounds one after the other, in one world: what a round leaves behind the next one finds. */
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Observe from "./observe.ts"
import type { PointName } from "./points.ts"
import { printViolations, type Report, type RoundReport } from "./report.ts"
import { play } from "./round.ts"
import { schedule } from "./schedule.ts"

export class WentWrong extends Data.TaggedError("WentWrong")<{ readonly report: Report; readonly message: string }> {}

interface Options {
  readonly seed: string
  /** Numbers of the rounds to play. */
  readonly rounds: ReadonlyArray<number>
  /** At which points something is to happen. */
  readonly points: ReadonlyArray<PointName>
  readonly onRound: (round: RoundReport, report: Report) => Effect.Effect<void>
}

/** Ends with the first round that goes wrong. */
export const run = ({ onRound, points, rounds, seed }: Options) =>
  Effect.gen(function* () {
    const played: Array<RoundReport> = []
    const started = Date.now()
    const report = (): Report => ({ seed, seconds: (Date.now() - started) / 1_000, rounds: played })
    for (const number of rounds) {
      const before = played.reduce((total, { rows }) => total + rows, 0)
      const [took, outcome] = yield* Effect.timed(play(`${seed}/${number}`, schedule(seed, number, points), before))
      const round = { round: number, seconds: Duration.toSeconds(took), ...outcome }
      played.push(round)
      yield* onRound(round, report())
      if (round.violations.length > 0) {
        return yield* new WentWrong({ report: report(), message: printViolations(seed, round) })
      }
    }
    const doubled = yield* Observe.doubledOverall
    if (doubled.length > 0) {
      const message = `Events were doubled after their round was judged: ${JSON.stringify(doubled)}`
      return yield* new WentWrong({ report: report(), message })
    }
    return report()
  })
