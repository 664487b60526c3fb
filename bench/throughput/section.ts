/** Runs the contestants against each other, and reports the results. */
import { cpus } from "node:os"
import { Array, Console, Effect, Random } from "effect"
import { connectTo, type Servers } from "../databases.ts"
import { bars } from "../harness/chart.ts"
import { keyOf, type Section } from "../harness/Section.ts"
import * as Source from "../harness/Source.ts"
import { median } from "../harness/statistics.ts"
import { type Cell, fixed, table, whole } from "../harness/table.ts"
import { contestants, measure, type Run } from "../throughput.ts"
import type { Contestant } from "./Contestant.ts"

/** The default, and what others are compared with. */
const OWN = "clickhouse-outbox"
const REFERENCE = "running, 1 process"

const MEGABYTE = 1 << 20

/** The results of one contestant's runs. */
interface Medians {
  readonly contestant: Contestant
  readonly events: number
  readonly rate: number
  readonly of: (value: (run: Run) => number) => number
}

const summarize = (chosen: ReadonlyArray<Contestant>, runs: ReadonlyArray<Run>): ReadonlyArray<Medians> =>
  chosen.map((contestant) => {
    const own = runs.filter(({ name, variant }) => name === contestant.name && variant === contestant.variant)
    const of = (value: (run: Run) => number) => median(own.map(value))
    return { contestant, events: of(({ events }) => events), rate: of((run) => run.events / run.seconds), of }
  })

const rates = (medians: ReadonlyArray<Medians>): string => {
  const limits = medians.filter(({ contestant }) => contestant.name === "limit").map(({ rate }) => rate)
  const limit = limits.length > 0 ? Math.max(...limits) : Number.NaN
  const reference = medians.find(({ contestant }) => contestant.name === OWN && contestant.variant === REFERENCE)?.rate
  const rows = medians.map(
    ({ contestant, events, of, rate }): ReadonlyArray<Cell> => [
      `${contestant.name}: ${contestant.variant}`,
      ...[
        whole(events),
        fixed(
          of(({ seconds }) => seconds),
          2
        ),
        whole(rate),
        fixed(1e6 / rate, 1)
      ],
      ...[fixed(rate / limit, 2), fixed((reference ?? Number.NaN) / rate, 1)]
    ]
  )
  const columns = ["", "events", "seconds", "events/s", "µs per event", "of the limit", `${OWN} is times faster`]
  return table(columns, rows)
}

/** Per event, so that contestants with fewer events compare. */
const costs = (medians: ReadonlyArray<Medians>): string =>
  table(
    [
      "",
      "CPU µs: own",
      "Postgres",
      "ClickHouse",
      "own MB",
      "WAL B: publish",
      "drain",
      "disk B: Postgres",
      "ClickHouse"
    ],
    medians.map(({ contestant, events, of }): ReadonlyArray<Cell> => {
      const perEvent = (value: (run: Run) => number, digits = 0) => fixed(of(value) / events, digits)
      return [
        `${contestant.name}: ${contestant.variant}`,
        perEvent(({ cpu }) => cpu.programs * 1e6, 1),
        perEvent(({ cpu }) => cpu.postgres * 1e6, 1),
        perEvent(({ cpu }) => cpu.clickHouse * 1e6, 1),
        // The others' programs are loaded by a TypeScript loader, whose memory is not theirs.
        contestant.name === OWN ? whole(of(({ peakMemory }) => peakMemory) / MEGABYTE) : "",
        contestant.schema === undefined ? "" : perEvent(({ walBytesOfPublishing }) => walBytesOfPublishing),
        perEvent(({ walBytes }) => walBytes, 1),
        contestant.schema === undefined ? "" : perEvent(({ diskBytes }) => diskBytes.postgres),
        perEvent(({ diskBytes }) => diskBytes.clickHouse)
      ]
    })
  )

const chart = (medians: ReadonlyArray<Medians>, runs: number): string =>
  bars(
    "Events per second from Postgres to ClickHouse",
    `committed events until all are in ClickHouse, each once; ${runs === 1 ? "one run" : `median of ${runs} runs`} on ${cpus().length} cores`,
    medians.map(({ contestant: { name, variant }, rate }) => ({
      label: `${name}: ${variant}`,
      value: rate,
      text: `${whole(rate)} /s`,
      own: name === OWN
    }))
  )

/** A contestant that cannot run here is named, not measured. */
const isPossible = (servers: Servers, source: Source.Source, { check, name, variant }: Contestant) =>
  check === undefined
    ? Effect.succeed(true)
    : check(source).pipe(
        Effect.provide(connectTo(servers)),
        Effect.as(true),
        Effect.catchAll((error) => Effect.as(Console.error(`left out: ${name}, ${variant}: ${error.message}`), false))
      )

/** A contestant that fails must not keep the others from being measured. */
const attempt = (...parameters: Parameters<typeof measure>) =>
  measure(...parameters).pipe(
    Effect.mapError((error) => error.message),
    Effect.tapError(Console.error),
    Effect.either
  )

export const section: Section = {
  name: "throughput",
  parts: Array.dedupe(contestants.map(({ name }) => name)),
  run: (servers, { events, only, quick, runs }) =>
    Effect.gen(function* () {
      const selected = contestants.filter(
        ({ name }) => only.length === 0 || only.includes(keyOf(name)) || only.includes("throughput")
      )
      // A quick run has one variant of each.
      const chosen = quick ? Array.dedupeWith(selected, (one, other) => one.name === other.name) : selected
      const eventsOf = ({ most }: Contestant) => Math.min(events, most[quick ? 0 : 1])
      const source = yield* Source.make(servers, Math.max(...chosen.map(eventsOf)))
      const wanted = yield* Effect.filter(chosen, (contestant) => isPossible(servers, source, contestant))
      // Files are what the limit is measured with, and they have all events.
      const [first] = wanted
      if (first !== undefined && !quick) yield* measure(servers, source, first, 0, eventsOf(first))
      const [errors, done] = yield* Effect.forEach(Array.range(1, runs), (round) =>
        Effect.flatMap(Random.make(`throughput/${round}`).shuffle(wanted), (order) =>
          Effect.forEach(order, (contestant) => attempt(servers, source, contestant, round, eventsOf(contestant)))
        )
      ).pipe(Effect.map(Array.flatten), Effect.map(Array.separate))
      const medians = summarize(wanted, done)
      return {
        runs: done,
        errors,
        tables: [
          { title: "Throughput", table: rates(medians) },
          { title: "What an event costs", table: costs(medians) }
        ],
        charts: [{ file: "throughput.svg", svg: chart(medians, runs) }]
      }
    })
}
