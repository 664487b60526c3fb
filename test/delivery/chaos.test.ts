/** Chaos, briefly: `npm run chaos` plays many rounds of it. And the judge, who has to find what is wrong. */
import { expect, it } from "@effect/vitest"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import type { WrittenEvent, WrittenTransaction } from "../chaos/journal.ts"
import { judge, type Row, settle } from "../chaos/judge.ts"
import { pointNames } from "../chaos/points.ts"
import { totals } from "../chaos/report.ts"
import { run } from "../chaos/run.ts"
import { schedule } from "../chaos/schedule.ts"
import * as World from "../chaos/world.ts"
import { isWhole } from "../support/whole.ts"

const ROUNDS = Arr.range(0, isWhole ? 4 : 0)

it.live("Whatever is killed, cut or frozen every committed event arrives once and as it was, and no other does", () =>
  Effect.gen(function* () {
    const report = yield* run({ seed: "test", rounds: ROUNDS, points: pointNames, onRound: () => Effect.void })
    const { eventsCommitted, faults, rounds, violations } = totals(report)
    expect({ rounds, violations }).toEqual({ rounds: ROUNDS.length, violations: 0 })
    expect(eventsCommitted).toBeGreaterThan(100)
    expect(faults).toBeGreaterThanOrEqual(rounds)
  }).pipe(Effect.provide(World.layer))
)

it("The schedule of a round is the same for the same seed, and another for another", () => {
  expect(schedule("seed", 7)).toEqual(schedule("seed", 7))
  expect(schedule("seed", 7)).not.toEqual(schedule("seed", 8))
  expect(schedule("seed", 7)).not.toEqual(schedule("another", 7))
})

it("The schedule comes to each point at least twice in as many rounds as there are points", () => {
  const steps = Arr.makeBy(pointNames.length, (round) => schedule("seed", round).steps).flat()
  const times = (name: string) => steps.filter((step) => step.kind === "point" && step.point === name).length
  expect(pointNames.filter((name) => times(name) < 2)).toEqual([])
})

{
  const event = (eventId: string, isRefused = false): WrittenEvent => ({
    eventId,
    eventType: "judged",
    eventDateTime: "2026-01-10 00:30:00.123456",
    environment: "test",
    metadataVersion: 1,
    context: { a: 1, b: { c: [2] } },
    isRefused
  })
  const transaction = (outcome: WrittenTransaction["outcome"], ...events: ReadonlyArray<WrittenEvent>) => ({
    marker: outcome,
    events,
    undone: [event(`undone in ${outcome}`)],
    outcome
  })
  const row = ({ isRefused: _, ...rest }: WrittenEvent): Row => rest
  const settled = settle(
    [transaction("committed", event("1"), event("2", true)), transaction("rolled back", event("3"))],
    new Set(["committed"])
  )
  const failed = [{ eventId: "2", parked: false }]
  const found = (rows: ReadonlyArray<Row>, failures = failed) =>
    judge(settled, rows, failures).map(({ eventId, what }) => `${eventId}: ${what}`)

  it("The judge finds nothing where everything is in its place, in whatever order keys are", () => {
    expect(settled.violations).toEqual([])
    expect(found([{ ...row(event("1")), context: { b: { c: [2] }, a: 1 } }])).toEqual([])
  })

  it("The judge finds what is missing, in the table and among the failures", () => {
    expect(found([], [])).toEqual(["1: missing", "2: missing"])
  })

  it("The judge finds what is doubled, in either place or in both", () => {
    expect(found([row(event("1")), row(event("1"))])).toEqual(["1: doubled"])
    expect(found([row(event("1"))], [...failed, ...failed])).toEqual(["2: doubled"])
    expect(found([row(event("1"))], [...failed, { eventId: "1", parked: false }])).toEqual(["1: doubled"])
  })

  it("The judge finds what is changed", () => {
    expect(found([{ ...row(event("1")), context: { a: 1, b: { c: [3] } } }])).toEqual(["1: changed"])
    expect(found([{ ...row(event("1")), eventDateTime: "2026-01-10 00:30:00.123000" }])).toEqual(["1: changed"])
  })

  it("The judge finds what was rolled back, with its transaction or with a savepoint", () => {
    const delivered = "delivered though rolled back"
    expect(found([row(event("1")), row(event("3"))])).toEqual([`3: ${delivered}`])
    expect(found([row(event("1")), row(event("undone in committed"))])).toEqual([`undone in committed: ${delivered}`])
    expect(found([row(event("1"))], [...failed, { eventId: "3", parked: false }])).toEqual([`3: ${delivered}`])
  })

  it("The judge lets a good event wait that was parked, and not be in the table too", () => {
    const parked = [...failed, { eventId: "1", parked: true }]
    expect(found([], parked)).toEqual([])
    expect(found([row(event("1"))], parked)).toEqual(["1: other"])
  })

  it("The judge asks Postgres what became of a transaction whose writer was not told", () => {
    const unknown = [transaction("unknown", event("4"))]
    expect(settle(unknown, new Set(["unknown"])).events.has("4")).toBe(true)
    expect(settle(unknown, new Set()).never.has("4")).toBe(true)
  })

  it("The judge finds a transaction that was not what its writer was told", () => {
    expect(settle([transaction("committed", event("1"))], new Set()).violations).toHaveLength(1)
    expect(settle([transaction("rolled back", event("1"))], new Set(["rolled back"])).violations).toHaveLength(1)
  })
}
