/** What a run came to, for people and as JSON. */
import * as Arr from "effect/Array"
import type { Outcome } from "./round.ts"
import type { Happened } from "./shake.ts"

export interface RoundReport extends Outcome {
  readonly round: number
  readonly seconds: number
}

export interface Report {
  readonly seed: string
  readonly seconds: number
  readonly rounds: ReadonlyArray<RoundReport>
}

const actions = { kill: "killed", stop: "stopped", cut: "cut", reset: "reset", silence: "gone silent" }
const servers = { postgres: "Postgres", clickhouse: "ClickHouse" }

/** One name for faults of one kind. */
export const kindOf = (what: Happened["what"]): string => {
  switch (what.kind) {
    case "point":
      return `${what.point}: ${actions[what.action.does]}`
    case "ClickHouse ended by itself":
      return "ClickHouse: ended by itself, restart"
    case "pretend":
      return "ClickHouse has lost what it took"
    case "kill":
      return "relay: SIGKILL"
    case "stop":
      return "relay: SIGSTOP"
    case "clock forward":
      return "relay: clock an hour forward"
    case "crash":
      return `${servers[what.server]}: ${what.signal}, restart`
    case "disk full":
    case "too many parts":
      return `ClickHouse: ${what.kind}`
    case "an hour passes":
      return "batches in doubt: an hour passes"
    case "writers cut":
      return "writers: connections cut"
    case "cut after bytes":
      return `${servers[what.server]}: cut after N bytes of ${what.of}`
    default:
      return `${servers[what.server]}: connection ${{ cut: "cut", reset: "reset", freeze: "frozen", slow: "slowed" }[what.kind]}`
  }
}

/** For the history of a round, with all that the schedule decided. */
export const describe = ({ reached, what }: Happened): string =>
  `${kindOf(what)} ${JSON.stringify(what)}${reached ? "" : ", not reached"}`

const sum = (rounds: ReadonlyArray<RoundReport>, of: (round: RoundReport) => number) =>
  rounds.reduce((total, round) => total + of(round), 0)

/** By kind, those that happened. */
export const faultCounts = ({ rounds }: Report): Readonly<Record<string, number>> => {
  const happened = rounds.flatMap((round) => round.happened).filter(({ reached }) => reached)
  return Object.fromEntries(
    Object.entries(Arr.groupBy(happened, ({ what }) => kindOf(what)))
      .map(([kind, all]) => [kind, all.length] as const)
      .sort(([a], [b]) => (a < b ? -1 : 1))
  )
}

/** Points that were planned so often that one of the plans must have come to pass. */
export const neverReached = ({ rounds }: Report): ReadonlyArray<string> => {
  const points = rounds.flatMap(({ happened }) =>
    happened.flatMap(({ reached, what }) => (what.kind === "point" ? [{ point: what.point, reached }] : []))
  )
  return Object.entries(Arr.groupBy(points, ({ point }) => point))
    .filter(([, planned]) => planned.length >= 10 && planned.every(({ reached }) => !reached))
    .map(([point]) => point)
}

export const totals = (report: Report) => {
  const { rounds } = report
  return {
    rounds: rounds.length,
    seconds: Math.round(report.seconds),
    faults: Object.values(faultCounts(report)).reduce((total, count) => total + count, 0),
    eventsCommitted: sum(rounds, ({ committed }) => committed),
    eventsRolledBack: sum(rounds, ({ rolledBack }) => rolledBack),
    eventsRefused: sum(rounds, ({ refused }) => refused),
    rowsInClickHouse: sum(rounds, ({ rows }) => rows),
    batches: sum(rounds, ({ batches }) => batches),
    batchesSentMoreThanOnce: sum(rounds, ({ repeated }) => repeated),
    verifications: sum(rounds, ({ questions }) => questions),
    repairsOfArrangedLosses: sum(rounds, ({ arrangedRepairs }) => arrangedRepairs),
    otherRepairs: sum(rounds, ({ arrangedRepairs, repairs }) => repairs - arrangedRepairs),
    violations: sum(rounds, ({ violations }) => violations.length)
  }
}

const table = (rows: ReadonlyArray<readonly [string, number]>): string => {
  const width = Math.max(...rows.map(([name]) => name.length))
  return rows.map(([name, value]) => `  ${name.padEnd(width)}  ${value.toLocaleString("en").padStart(9)}`).join("\n")
}

const NAMES: Readonly<Record<keyof ReturnType<typeof totals>, string>> = {
  rounds: "rounds",
  seconds: "seconds",
  faults: "faults",
  eventsCommitted: "events committed",
  eventsRolledBack: "events rolled back",
  eventsRefused: "events that ClickHouse refused",
  rowsInClickHouse: "rows in ClickHouse at the end",
  batches: "batches",
  batchesSentMoreThanOnce: "batches sent more than once",
  verifications: "questions which of a batch's events are there",
  repairsOfArrangedLosses: "repairs of losses that were arranged",
  otherRepairs: "repairs of losses that were not",
  violations: "events missing, doubled, changed or otherwise wrong"
}

export const print = (report: Report): string => {
  const rows = Object.entries(totals(report)).map(([key, value]) => [nameOf(key), value] as const)
  return `${table(Object.entries(faultCounts(report)))}\n\n${table(rows)}`
}

const nameOf = (key: string): string => Object.entries(NAMES).find(([name]) => name === key)?.[1] ?? key

export const printRound = (round: RoundReport): string => {
  const faults = round.happened.filter(({ reached }) => reached).map(({ what }) => kindOf(what))
  return `round ${round.round}  ${round.seconds.toFixed(1)} s  ${round.committed} events in ${round.batches} batches, ${round.repairs} repairs  ${faults.join("; ")}`
}

/** Everything that is needed to understand what went wrong, and to try it again. */
export const printViolations = (seed: string, round: RoundReport): string =>
  [
    `Round ${round.round} of seed ${seed} went wrong: npm run chaos -- --seed ${seed} --round ${round.round}`,
    ...round.violations.slice(0, 20).map(({ detail, eventId, what }) => `  ${what}: ${eventId ?? ""} ${detail}`),
    round.violations.length > 20 ? `  and ${round.violations.length - 20} more` : "",
    "The faults of this round:",
    ...round.happened.map((happened) => `  ${describe(happened)}`),
    "The history of the first events concerned:",
    JSON.stringify(round.histories, null, 2)
  ].join("\n")
