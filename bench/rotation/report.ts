/** The results, for people. */
import { Array as Arr } from "effect"
import { area } from "../harness/chart.ts"
import { median } from "../harness/statistics.ts"
import { type Cell, fixed, table, whole } from "../harness/table.ts"
import { ON_A_TABLE, STALL_MILLIS } from "./look.ts"
import type { Run } from "./measure.ts"

const MEGABYTE = 1 << 20

export const transactions = (runs: ReadonlyArray<Run>, near: number): string => {
  const rows = [
    ["all", (run: Run) => run.all],
    [`within ${near / 1_000} s of a rotation`, (run: Run) => run.near],
    ["the others", (run: Run) => run.others]
  ] as const
  return table(
    ["transactions", "number", "p50 ms", "p99 ms", "p99.9 ms", "longest ms", `over ${STALL_MILLIS} ms`],
    rows.map(([name, kind]): ReadonlyArray<Cell> => {
      const of = (value: (each: Run["all"]) => number) => median(runs.map((run) => value(kind(run))))
      return [
        name,
        whole(of((each) => each.transactions)),
        ...[of((each) => each.p50), of((each) => each.p99), of((each) => each.p999)].map((value) => fixed(value, 1)),
        // The worst run, not the median: one stall is one too many.
        fixed(Math.max(...runs.map((run) => kind(run).longest)), 1),
        whole(runs.reduce((sum, run) => sum + kind(run).stalls, 0))
      ]
    })
  )
}

export const space = (runs: ReadonlyArray<Run>): string => {
  const of = (value: (run: Run) => number) => median(runs.map(value))
  const megabytes = (value: (run: Run) => number) => fixed(of(value) / MEGABYTE, 1)
  return table(
    ["", ""],
    [
      ["events", whole(of(({ events }) => events))],
      ["events published per second", whole(of(({ rate }) => rate))],
      ["new rows went to the next slot, times", whole(of(({ moved }) => moved.length))],
      ["slots emptied, times", whole(of(({ emptied }) => emptied.flat().length))],
      ["MB of the schema outbox before", megabytes(({ bytes }) => bytes.before)],
      ["at most", megabytes(({ bytes }) => bytes.most)],
      ["when everything had been delivered", megabytes(({ bytes }) => bytes.after)]
    ]
  )
}

/** How often publishers waited for a table, which must be never, and what the slow ones waited for. */
export const waited = (runs: ReadonlyArray<Run>): string => {
  const all = runs.flatMap(({ waits }) => waits)
  const seen = (event: string, near: boolean) =>
    whole(
      all.filter((each) => each.event === event && each.near === near).reduce((sum, each) => sum + each.sessions, 0)
    )
  return table(
    ["publishers seen to wait", "near a rotation", "else"],
    Arr.dedupe([ON_A_TABLE, ...all.map(({ event }) => event).sort()]).map((event) => [
      event === ON_A_TABLE ? `${event}, however short` : `${event}, over ${STALL_MILLIS / 2} ms`,
      seen(event, true),
      seen(event, false)
    ])
  )
}

const NAMES = ["a transaction is open", "an old snapshot is held"]

export const chart = (run: Run): string =>
  area(
    "Megabytes of the outbox while its slots rotate",
    `${whole(run.rate)} events a second, nothing vacuumed; marks where a slot was emptied`,
    {
      points: run.samples.map(({ bytes, second }) => ({ x: second, y: bytes / MEGABYTE })),
      marks: run.emptied.flat(),
      spans: run.sessions.map(({ from, to }, index) => ({ from, to, label: NAMES[index] ?? "" })),
      unit: { x: "s", y: "MB" }
    }
  )
