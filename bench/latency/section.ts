/**
 * How late events are, at 1,000 transactions a second with one event each: with a linger of 50 ms, and with the default
 * of a second. The goals at 50 ms: half within 100 ms, 99 % within 300 ms.
 */
import { Array, Console, Effect, Random } from "effect"
import * as Databases from "../databases.ts"
import { bars } from "../harness/chart.ts"
import { orError } from "../harness/Flawed.ts"
import type { Section } from "../harness/Section.ts"
import { median } from "../harness/statistics.ts"
import { fixed, table, whole } from "../harness/table.ts"
import { type Latency, measure } from "./measure.ts"

const KINDS = [
  { name: 'OUTBOX_LINGER="50 millis"', linger: "50 millis" },
  { name: "default", linger: undefined }
] as const

const RATE = 1_000

interface Run extends Latency {
  readonly round: number
  readonly name: string
}

const QUANTILES = ["p50", "p99", "max"] as const

export const section: Section = {
  name: "latency",
  parts: [],
  run: (servers, { quick, runs }) =>
    Effect.gen(function* () {
      const done = yield* Effect.forEach(Array.range(1, runs), (round) =>
        Effect.flatMap(Random.make(`latency/${round}`).shuffle(KINDS), (kinds) =>
          Effect.forEach(kinds, ({ linger, name }) =>
            measure({ run: `round ${round}, ${name}`, linger, rate: RATE, seconds: quick ? 3 : 30 }).pipe(
              Effect.provide(Databases.layer(servers, `bench_latency_${round}`)),
              orError,
              Effect.map((latency): Run => ({ round, name, ...latency })),
              Effect.tap(({ p50, p99 }) =>
                Console.error(`round ${round}, ${name}: p50 ${whole(p50)} ms, p99 ${whole(p99)} ms`)
              )
            )
          )
        )
      ).pipe(Effect.map(Array.flatten))
      const of = (kind: string, value: keyof Latency) =>
        median(done.filter(({ name }) => name === kind).map((run) => run[value]))
      return {
        runs: done,
        tables: [
          {
            title: `From commit to acknowledged, at ${whole(RATE)} events a second`,
            table: table(
              ["linger", "p50 ms", "p99 ms", "max ms", "batches/s"],
              KINDS.map(({ name }) => [
                name,
                ...QUANTILES.map((quantile) => whole(of(name, quantile))),
                fixed(of(name, "batchesPerSecond"), 1)
              ])
            )
          }
        ],
        charts: [
          {
            file: "latency.svg",
            svg: bars(
              "Milliseconds from commit to acknowledged by ClickHouse",
              `${whole(RATE)} transactions a second with one event each`,
              KINDS.flatMap(({ name }) =>
                QUANTILES.map((quantile) => ({
                  label: `${name}: ${quantile}`,
                  value: of(name, quantile),
                  text: `${whole(of(name, quantile))} ms`,
                  own: true
                }))
              )
            )
          }
        ]
      }
    })
}
