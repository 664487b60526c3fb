/** The first part of a round: writers write while faults happen. It ends with everything healed. */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { until } from "../support/wait.ts"
import { inject, PATIENCE } from "./faults.ts"
import * as Observe from "./observe.ts"
import { points } from "./points.ts"
import type { Fault, Round, Step } from "./schedule.ts"
import { World } from "./world.ts"
import * as Writers from "./writers.ts"

/** What nobody had planned. */
export interface Incident {
  readonly kind: "ClickHouse ended by itself"
}

export interface Happened {
  readonly what: Step | Fault | Incident
  /** Whether anything came there while it was waited for. */
  readonly reached: boolean
}

/** How long a relay may take to start, and a transaction to end, on a machine that is busy. */
const START = "90 seconds"

export const shake = (environment: string, plan: Round) =>
  Effect.gen(function* () {
    const { clickHouseEnded, relays, writersContext, writersProxy } = yield* World
    yield* until(
      Effect.sync(() => relays.filter((relay) => relay.hasStarted()).length),
      (started) => started === relays.length,
      START
    )
    const endedBefore = clickHouseEnded()
    const journal: Writers.Journal = []
    const write = Effect.provide(writersContext)

    const trickling = yield* Effect.forEach(["library", "SQL"] as const, (through) =>
      Writers.trickle(writersProxy.url, environment, through, journal).pipe(write, Effect.fork)
    )
    const [, steps, faults] = yield* Effect.all(
      [
        Effect.forEach(plan.writers, (writer) => write(Writers.run(writersProxy.url, environment, writer, journal)), {
          concurrency: "unbounded"
        }),
        Effect.forEach(plan.steps, (step) =>
          takeStep(step, write(Writers.provoke(writersProxy.url, environment, journal)))
        ),
        Effect.forEach(
          plan.faults,
          ({ atMillis, fault }) =>
            Effect.map(Effect.delay(inject(fault), atMillis), (reached): Happened => ({ what: fault, reached })),
          { concurrency: "unbounded" }
        )
      ],
      { concurrency: "unbounded" }
    )
    yield* Fiber.interruptAll(trickling)

    // Faults have healed themselves by now, but for connections that were silenced: nobody would ever notice.
    yield* Effect.forEach(relays, ({ proxies, signal }) => {
      signal("SIGCONT")
      return plan.steps.some(isSilence) ? proxies.postgres.cut : Effect.void
    })
    yield* until(Observe.openTransactions, (open) => open.length === 0, START)
    const ended = Array.from({ length: clickHouseEnded() - endedBefore }, () => ENDED)
    return { journal, happened: [...steps, ...faults, ...ended] }
  })

const ENDED: Happened = { what: { kind: "ClickHouse ended by itself" }, reached: true }

const isSilence = (step: Step) => step.kind === "point" && step.action.does === "silence"

const takeStep = (step: Step, provoke: Effect.Effect<unknown>) =>
  Effect.gen(function* () {
    const { interferer } = yield* World
    const isProvoked = step.kind === "point" && "needs" in points[step.point] && points[step.point].needs === "refusal"
    const [arrived] = yield* Effect.all(
      [Effect.timeoutOption(interferer.step(step), PATIENCE), Effect.when(provoke, () => isProvoked)],
      { concurrency: "unbounded" }
    )
    const reached = Option.isSome(arrived)
    // As long as it lasts nothing else is waited for.
    if (reached && step.kind === "point" && step.action.does === "stop") yield* Effect.sleep(step.action.millis)
    const happened: Happened = { what: step, reached }
    return happened
  })
