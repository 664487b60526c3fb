/** What the console makes of states, numbers and times, without a browser. */
import { expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import { pieces } from "../../console/src/components/scale.ts"
import { elements } from "../../console/src/json/elements.ts"
import { isBeyond64Bits } from "../../console/src/json/numbers.ts"
import { syntaxProblem } from "../../console/src/json/syntax.ts"
import { age, duration } from "../../console/src/time.ts"
import { findings } from "../../console/src/views/overview/verdict.ts"
import { OutboxStatus } from "../../src/schema/status.ts"
import { DatabaseState, RelayState } from "../../src/schema/systems.ts"

const reachable = new DatabaseState({ reachable: true, migrated: true, reason: null, version: "1", pingMillis: 1 })
const unreachable = new DatabaseState({
  ...{ reachable: false, migrated: false, reason: "connection refused", version: null, pingMillis: null }
})

const relay = new RelayState({
  ...{ id: "host/1", self: true, connections: 2, connectedSince: null, leases: [] },
  ...{ deliveredBatches: 0, deliveredEvents: 0, lastDeliveredAt: null }
})

const quiet = {
  ...{ backlog: 0, oldestUndeliveredMillis: null, unsealed: 0, openIncidents: 0, relayPause: null },
  batches: { sealed: 0, leased: 0, retrying: 0, blocked: 0, delivered: 0, failed: 0 },
  openFailures: { failures: 0, events: 0 },
  ...{ lastDeliveredAt: null, lastError: null }
}

const verdict = (
  status: Partial<ConstructorParameters<typeof OutboxStatus>[0]> = {},
  systems: { readonly clickhouse?: DatabaseState; readonly relays?: ReadonlyArray<RelayState> } = {}
) =>
  findings({
    status: new OutboxStatus({ ...quiet, ...status }),
    systems: { postgres: reachable, clickhouse: reachable, relays: [relay], ...systems },
    error: null
  }).map(({ sentence, tone }) => `${tone}: ${sentence}`)

const LATE = { backlog: 1_234, oldestUndeliveredMillis: 90_000 }

it("The console's verdict is that all is well, with what is on its way", () => {
  expect(verdict()).toEqual(["good: All is well: nothing is waiting."])
  expect(verdict({ backlog: 12, oldestUndeliveredMillis: 300 })).toEqual([
    "good: All is well: 12 events waiting, the oldest for 0.3 s."
  ])
})

it("The console's verdict puts what keeps events from arriving before what needs somebody", () => {
  expect(verdict({ openFailures: { failures: 2, events: 3 }, ...LATE }, { relays: [] })).toEqual([
    "bad: No relay seems to be running: 1,234 events waiting, the oldest for 1 min 30 s.",
    "warn: 2 failures need you: ClickHouse refused 3 events."
  ])
})

it("The console's verdict does not take a relay that has stopped for one that runs", () => {
  const stopped = new RelayState({ ...relay, self: false, connections: 0, deliveredEvents: 12, deliveredBatches: 1 })
  expect(verdict({}, { relays: [stopped] })).toEqual(["warn: No relay seems to be running: nothing is waiting."])
  expect(verdict({}, { relays: [stopped, relay] })).toEqual(["good: All is well: nothing is waiting."])
})

it("The console's verdict names one cause of a delay, not its consequences too", () => {
  expect(verdict(LATE)).toEqual(["bad: Delivery is behind: 1,234 events waiting, the oldest for 1 min 30 s."])
  expect(verdict(LATE, { clickhouse: unreachable })).toEqual([
    "bad: ClickHouse does not answer: 1,234 events waiting, the oldest for 1 min 30 s, and none is lost."
  ])
  expect(verdict({ ...LATE, openIncidents: 1 }, { clickhouse: unreachable })).toEqual([
    "bad: ClickHouse does not answer: 1,234 events waiting, the oldest for 1 min 30 s, and none is lost."
  ])
  expect(verdict({ ...LATE, openIncidents: 1 })).toEqual([
    "bad: Batches do not get through: 1,234 events waiting, the oldest for 1 min 30 s."
  ])
})

it("The console's verdict says that nothing is known when the relay does not answer", () => {
  expect(
    findings({ status: undefined, systems: undefined, error: { title: "The relay does not answer", message: "" } })
  ).toMatchObject([{ tone: "bad", sentence: "The relay does not answer." }])
})

it.each([
  ["18446744073709551616", true],
  ["18446744073709551615", false],
  ["-9223372036854775808", false],
  ["-9223372036854775809", true],
  ["1e30", true],
  ["1E+400", true],
  ["1e19", false],
  ["1.5e30", true],
  ["0e99", false],
  ["123456789012345678901.5", false],
  ["1e-30", false]
] as const)("A number that ClickHouse's JSON does not hold %s: %s", (text, isBeyond) => {
  expect(isBeyond64Bits(text)).toBe(isBeyond)
})

it("JSON as it is written is taken apart into a list's elements, whatever they are", () => {
  FastCheck.assert(
    FastCheck.property(FastCheck.array(FastCheck.jsonValue()), FastCheck.constantFrom(0, 1, 2), (values, indent) => {
      const texts = elements(JSON.stringify(values, null, indent))
      expect(texts.map((text) => JSON.stringify(JSON.parse(text)))).toEqual(
        values.map((value) => JSON.stringify(value))
      )
    })
  )
})

it("JSON as it is written is a context only as an object", () => {
  expect(syntaxProblem('{"a": 1}')).toBeUndefined()
  expect(syntaxProblem("[1]")).toContain("JSON object")
  expect(syntaxProblem("{a: 1}")).toContain("This is not JSON")
})

it.each([
  [40, "0.0 s"],
  [9_940, "9.9 s"],
  [59_999, "59 s"],
  [90_000, "1 min 30 s"],
  [3_600_000, "1 h"],
  [93_600_000, "1 d 2 h"]
] as const)("Times of %i ms are %s", (millis, text) => {
  expect(duration(millis)).toBe(text)
})

it("Times are past, or to come", () => {
  expect(age(new Date(0), 5_200)).toBe("5 s ago")
  expect(age(new Date(0), 500)).toBe("just now")
  expect(age(new Date(60_000), 0)).toBe("in 1 min")
})

it("A chart is interrupted where nothing is known", () => {
  expect(pieces([1, null, 3, 4])).toEqual([
    [[0, 1]],
    [
      [2, 3],
      [3, 4]
    ]
  ])
})
