/** A round: writers write while faults happen, then all is healed, the outbox drains, and the judge compares. */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import { OutboxStore } from "../../src/OutboxStore.ts"
import { until } from "../support/wait.ts"
import { inject, PATIENCE } from "./faults.ts"
import { type Committed, judge, settle, type Violation } from "./judge.ts"
import * as Observe from "./observe.ts"
import { closeAll, correctAndReplay } from "./operator.ts"
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

export interface Outcome {
  readonly happened: ReadonlyArray<Happened>
  readonly committed: number
  readonly rolledBack: number
  readonly refused: number
  /** Rows that ClickHouse is to have of this round for ever. */
  readonly rows: number
  readonly batches: number
  readonly repeated: number
  readonly questions: number
  readonly repairs: number
  readonly repairedEvents: number
  /** Of these, how many were of batches whose loss was arranged. */
  readonly arrangedRepairs: number
  readonly violations: ReadonlyArray<Violation>
  /** Of the first events concerned. */
  readonly histories: ReadonlyArray<unknown>
}

/** What takes longer is not lost, but stuck: a violation too. */
const DRAIN = "3 minutes"
const MOST_HISTORIES = 3

/** @param rowsBefore how many rows ClickHouse has of all rounds before */
export const play = (environment: string, plan: Round, rowsBefore: number) =>
  Effect.gen(function* () {
    const { clickHouseEnded, interferer, relays, takeEnded, writersContext, writersProxy } = yield* World
    yield* until(
      Effect.sync(() => relays.filter((relay) => relay.hasStarted()).length),
      (all) => all === relays.length,
      DRAIN
    )
    const endedBefore = clickHouseEnded()
    const questionsBefore = interferer.questions()
    const journal: Writers.Journal = []
    const write = Effect.provide(writersContext)

    const trickling = yield* Effect.all(
      (["library", "SQL"] as const).map((through) =>
        Writers.trickle(writersProxy.url, environment, through, journal).pipe(write, Effect.fork)
      )
    )
    const [, steps, faults] = yield* Effect.all(
      [
        Effect.forEach(plan.writers, (writer) => write(Writers.run(writersProxy.url, environment, writer, journal)), {
          concurrency: "unbounded"
        }),
        Effect.forEach(plan.steps, takeStep),
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

    // Whoever was told nothing is told that there is nobody any more.
    yield* Effect.forEach(relays, ({ proxies, signal }) => {
      signal("SIGCONT")
      return plan.steps.some(isSilence) ? proxies.postgres.cut : Effect.void
    })
    yield* until(Observe.openTransactions, (open) => open.length === 0, "30 seconds")
    const { violations: broken, ...committed } = settle(journal, yield* Observe.markers)
    const stuck = yield* drain

    const look = Effect.gen(function* () {
      return judge(committed, yield* Observe.rowsOf(environment), yield* Observe.openFailures)
    })
    const written = new Map(journal.flatMap(({ events }) => events).map((event) => [event.eventId, event]))
    const arrived = yield* look
    const dealtWith = Effect.gen(function* () {
      yield* correctAndReplay(committed, written)
      const stuckAfterReplay = yield* drain
      const replayed = yield* look
      const stuckAfterClosing = yield* closing(committed)
      return [...stuckAfterReplay, ...replayed, ...stuckAfterClosing, ...(yield* look)]
    })
    const later = stuck.length + arrived.length === 0 ? yield* dealtWith : []
    const rows = [...committed.events.values()].filter(({ place }) => place === "table").length
    const inTable = yield* Observe.countRows
    const deeds = yield* Observe.deeds

    const violations: ReadonlyArray<Violation> = [
      ...broken,
      ...stuck,
      ...arrived,
      ...later,
      ...takeEnded().map(({ how }): Violation => ({ what: "other", detail: how }))
    ]
    const overall: ReadonlyArray<Violation> =
      violations.length === 0 && inTable !== rowsBefore + rows
        ? [{ what: "other", detail: `ClickHouse has ${inTable} rows of all rounds instead of ${rowsBefore + rows}` }]
        : []
    const ids = new Set(violations.flatMap(({ eventId }) => (eventId === undefined ? [] : [eventId])))
    const histories = yield* Effect.forEach([...ids].slice(0, MOST_HISTORIES), (eventId) =>
      Effect.map(Observe.historyOf(eventId, committed.events.get(eventId)?.marker), (history) => ({
        eventId,
        ...history
      }))
    )
    if (violations.length + overall.length === 0) yield* Observe.forget
    const outcome: Outcome = {
      happened: [...steps, ...faults, ...Array.from({ length: clickHouseEnded() - endedBefore }, () => ENDED)],
      committed: committed.events.size,
      rolledBack: committed.never.size,
      refused: [...written.values()].filter(({ eventId, isRefused }) => isRefused && committed.events.has(eventId))
        .length,
      rows,
      batches: deeds.batches,
      repeated: deeds.repeated,
      questions: interferer.questions() - questionsBefore,
      repairs: deeds.repairs,
      repairedEvents: deeds.repairedEvents,
      arrangedRepairs: deeds.tokens.filter((token) => interferer.pretended().has(token)).length,
      violations: [...violations, ...overall],
      histories
    }
    return outcome
  })

const ENDED: Happened = { what: { kind: "ClickHouse ended by itself" }, reached: true }

const isSilence = (step: Step) => step.kind === "point" && step.action.does === "silence"

const takeStep = (step: Step) =>
  Effect.gen(function* () {
    const { interferer } = yield* World
    const reached = Option.isSome(yield* Effect.timeoutOption(interferer.step(step), PATIENCE))
    // As long as it lasts nothing else is waited for.
    if (reached && step.kind === "point" && step.action.does === "stop") yield* Effect.sleep(step.action.millis)
    const happened: Happened = { what: step, reached }
    return happened
  })

const closing = (committed: Committed) =>
  Effect.gen(function* () {
    while (!(yield* closeAll(committed))) {
      const stuck = yield* drain
      if (stuck.length > 0) return stuck
    }
    return []
  })

/** Until everything that was committed is in ClickHouse or is a failure. By relays, without help. */
const drain = Effect.gen(function* () {
  const store = yield* OutboxStore
  const status = store.status.pipe(
    Effect.retry(Schedule.spaced("100 millis").pipe(Schedule.upTo("60 seconds"))),
    // So that looking is not what keeps the machine busy.
    Effect.delay("150 millis")
  )
  const { relays } = yield* World
  const drained = yield* Effect.option(Effect.sandbox(until(status, ({ backlog }) => backlog === 0, DRAIN)))
  if (Option.isSome(drained)) return []
  const last = yield* Effect.option(status)
  const logs = relays.map(({ log }) => log().slice(-20).join("\n")).join("\n\n")
  const violation: Violation = { what: "other", detail: `not drained: ${JSON.stringify(last)}\n${logs}` }
  return [violation]
})
