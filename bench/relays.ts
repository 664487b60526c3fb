/**
 * The same backlog, with more relays and more workers in one: one transaction with all events commits while they run,
 * and the time is until ClickHouse has all, each once. It is measured as throughput is.
 *
 * Any relay seals if no other does, and each worker takes the next batch, so they share without being told to. They can
 * gain only what the machine has left: the table says how many of its cores were busy.
 */
import { cpus } from "node:os"
import { Array, Console, Effect, Random } from "effect"
import { bars } from "./harness/chart.ts"
import type { Section } from "./harness/Section.ts"
import * as Source from "./harness/Source.ts"
import { median } from "./harness/statistics.ts"
import { fixed, table, whole } from "./harness/table.ts"
import type { Contestant } from "./throughput/Contestant.ts"
import { running } from "./throughput/clickhouseOutbox.ts"
import { measure, type Run } from "./throughput.ts"

/** Processes and workers of each. Two workers are the default. */
const KINDS = [
  [1, 1],
  [1, 2],
  [1, 4],
  [2, 2],
  [4, 2]
] as const

/** Enough batches for eight workers to share. */
const BATCHES = 20

const contestant = ([processes, workers]: (typeof KINDS)[number], events: number): Contestant => ({
  ...running(processes, {
    OUTBOX_WORKERS: String(workers),
    OUTBOX_BATCH_EVENTS: String(Math.min(Source.ROWS_PER_FILE, Math.ceil(events / BATCHES)))
  }),
  variant: `${processes} × ${workers}`
})

const busy = ({ cpu, seconds }: Run): number => (cpu.programs + cpu.postgres + cpu.clickHouse) / seconds

export const section: Section = {
  name: "relays",
  parts: [],
  run: (servers, { events, quick, runs }) =>
    Effect.gen(function* () {
      const source = yield* Source.make(servers, events)
      // A quick run has the smallest and the largest.
      const chosen = quick ? [...KINDS.slice(0, 1), ...KINDS.slice(-1)] : KINDS
      const kinds = chosen.map((kind) => contestant(kind, events))
      // Not counted: the first run finds cold caches.
      if (!quick) yield* Effect.forEach(kinds.slice(0, 1), (kind) => measure(servers, source, kind, 0, events))
      const done = yield* Effect.forEach(Array.range(1, runs), (round) =>
        Effect.flatMap(Random.make(`relays/${round}`).shuffle(kinds), (order) =>
          Effect.forEach(order, (kind) => measure(servers, source, kind, round, events))
        )
      ).pipe(Effect.map(Array.flatten))
      const medianOf = ({ variant }: Contestant, value: (run: Run) => number) =>
        median(done.filter((run) => run.variant === variant).map(value))
      const rows = kinds.map((kind) => {
        const costs = (["programs", "postgres", "clickHouse"] as const).map((who) =>
          medianOf(kind, ({ cpu }) => (cpu[who] / events) * 1e6)
        )
        return { kind, rate: medianOf(kind, ({ seconds }) => events / seconds), costs, busy: medianOf(kind, busy) }
      })
      const cores = cpus().length
      const used = rows.map(({ busy }) => busy).filter(Number.isFinite)
      if (used.length > 0) {
        yield* Console.error(
          `${fixed(Math.min(...used), 2)} to ${fixed(Math.max(...used), 2)} of ${cores} cores were busy`
        )
      }
      return {
        runs: done,
        tables: [
          {
            title: `The same ${whole(events)} events with more relays, on ${cores} cores`,
            table: table(
              ["processes × workers", "events/s", "CPU µs: relays", "Postgres", "ClickHouse", "sum", "cores busy"],
              rows.map(({ busy, costs, kind, rate }) => [
                kind.variant,
                whole(rate),
                ...costs.map((cost) => fixed(cost, 1)),
                fixed(
                  costs.reduce((sum, cost) => sum + cost, 0),
                  1
                ),
                fixed(busy, 2)
              ])
            )
          }
        ],
        charts: [
          {
            file: "relays.svg",
            svg: bars(
              "Events per second, by processes × workers",
              `one backlog of ${whole(events)} events on ${cores} cores, which both databases share`,
              rows.map(({ busy, kind, rate }) => ({
                label: kind.variant,
                value: rate,
                text: `${whole(rate)} /s, ${fixed(busy, 1)} cores`,
                own: true
              }))
            )
          }
        ]
      }
    })
}
