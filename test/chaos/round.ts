/** A round: writers write while faults happen, then all is healed, the outbox drains, and the judge compares. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import { OutboxStore } from "../../src/OutboxStore.ts"
import { until } from "../support/wait.ts"
import { type Committed, judge, settle, type Violation } from "./judge.ts"
import * as Observe from "./observe.ts"
import { closeAll, correctAndReplay } from "./operator.ts"
import type { Round } from "./schedule.ts"
import { type Happened, shake } from "./shake.ts"
import { World } from "./world.ts"
import type { Journal } from "./writers.ts"

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
    const { interferer } = yield* World
    const questionsBefore = interferer.questions()
    const { happened, journal } = yield* shake(environment, plan)
    const { violations: lied, ...committed } = settle(journal, yield* Observe.markers)
    const found = yield* examine(environment, journal, committed)

    const rows = [...committed.events.values()].filter(({ place }) => place === "table").length
    const violations = [...lied, ...found, ...(found.length > 0 ? [] : yield* overall(rowsBefore + rows))]
    const histories = yield* historiesOf(violations, committed)
    const { batches, repaired, repairedEvents, repeated } = yield* Observe.deeds
    if (violations.length === 0) yield* Observe.forget
    const refused = journal.flatMap(({ events }) => events).filter((event) => event.isRefused)
    const outcome: Outcome = {
      happened,
      committed: committed.events.size,
      rolledBack: committed.never.size,
      refused: refused.filter(({ eventId }) => committed.events.has(eventId)).length,
      rows,
      batches,
      repeated,
      questions: interferer.questions() - questionsBefore,
      repairs: repaired.length,
      repairedEvents,
      arrangedRepairs: repaired.filter((token) => interferer.pretended().has(token)).length,
      violations,
      histories
    }
    return outcome
  })

/** Judges three times: when all has arrived, when an operator has replayed what was refused, and when nothing is open. */
const examine = (environment: string, journal: Journal, committed: Committed) =>
  Effect.gen(function* () {
    const look = Effect.gen(function* () {
      const stuck = yield* drain
      return [...stuck, ...judge(committed, yield* Observe.rowsOf(environment), yield* Observe.openFailures)]
    })
    const arrived = yield* look
    if (arrived.length > 0) return arrived
    const written = new Map(journal.flatMap(({ events }) => events).map((event) => [event.eventId, event]))
    yield* correctAndReplay(committed, written)
    const replayed = yield* look
    if (replayed.length > 0) return replayed
    // What was parked again comes back once more.
    while (!(yield* closeAll(committed))) {
      const stuck = yield* drain
      if (stuck.length > 0) return stuck
    }
    return yield* look
  })

/** Until everything that was committed is in ClickHouse or is a failure. By relays, without help. */
const drain = Effect.gen(function* () {
  const store = yield* OutboxStore
  const { relays } = yield* World
  const status = store.status.pipe(
    Effect.retry(Schedule.spaced("100 millis").pipe(Schedule.upTo("60 seconds"))),
    // So that looking is not what keeps the machine busy.
    Effect.delay("150 millis")
  )
  const drained = yield* Effect.option(Effect.sandbox(until(status, ({ backlog }) => backlog === 0, DRAIN)))
  if (Option.isSome(drained)) return []
  const last = yield* Effect.option(status)
  const logs = relays.map(({ log }) => log().slice(-20).join("\n")).join("\n\n")
  const violation: Violation = { what: "other", detail: `not drained: ${JSON.stringify(last)}\n${logs}` }
  return [violation]
})

/** What shows in no event of this round: one of an earlier round that came again, and a relay that has died. */
const overall = (expected: number) =>
  Effect.gen(function* () {
    const { takeEnded } = yield* World
    const rows = yield* Observe.countRows
    const details = takeEnded().map(({ how }) => how)
    if (rows !== expected) details.push(`ClickHouse has ${rows} rows of all rounds instead of ${expected}`)
    return details.map((detail): Violation => ({ what: "other", detail }))
  })

const historiesOf = (violations: ReadonlyArray<Violation>, { events }: Committed) => {
  const ids = new Set(violations.flatMap(({ eventId }) => (eventId === undefined ? [] : [eventId])))
  return Effect.forEach([...ids].slice(0, MOST_HISTORIES), (eventId) =>
    Effect.map(Observe.historyOf(eventId, events.get(eventId)?.marker), (history) => ({ eventId, ...history }))
  )
}
