/**
 * What a relay costs while it has nothing to do: its share of a processor core, and what it makes Postgres read and
 * write, as Postgres counts it. The goal: less than 1 % of a core, and no table touched.
 */
import { SqlClient } from "@effect/sql"
import { Array, Console, Effect } from "effect"
import * as Databases from "./databases.ts"
import { orError } from "./harness/Flawed.ts"
import * as Meter from "./harness/meter.ts"
import { startRelay } from "./harness/processes.ts"
import type { Section } from "./harness/Section.ts"
import { median } from "./harness/statistics.ts"
import { fixed, table } from "./harness/table.ts"

interface Touched {
  readonly name: string
  readonly scans: number
  readonly blocks: number
  readonly writes: number
}

const touched = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql<Touched>`
    SELECT
      relname AS name,
      (coalesce(seq_scan, 0) + coalesce(idx_scan, 0))::float8 AS scans,
      (
        heap_blks_read + heap_blks_hit + coalesce(idx_blks_read + idx_blks_hit, 0)
        + coalesce(toast_blks_read + toast_blks_hit, 0)
      )::float8 AS blocks,
      (n_tup_ins + n_tup_upd + n_tup_del)::float8 AS writes
    FROM pg_stat_user_tables
    JOIN pg_statio_user_tables USING (relid, schemaname, relname)
    WHERE schemaname = 'outbox'
    ORDER BY relname
  `
)

/**
 * Long enough for a session of Postgres to report its counters, which it does 10 seconds after it fell idle at the
 * latest, and for the relay's code to be compiled.
 */
const settled = (quick: boolean) => (quick ? "12 seconds" : "2 minutes")

const measure = (servers: Databases.Servers, round: number, quick: boolean) =>
  Effect.gen(function* () {
    const relay = yield* startRelay([], yield* Databases.Variables)
    // What it does at its start is not what it does for the rest of the day.
    yield* Effect.sleep(settled(quick))
    const before = yield* touched
    const meter = yield* Meter.start(servers, [relay])
    yield* Effect.sleep(quick ? "5 seconds" : "30 seconds")
    const costs = yield* meter.read
    const tables = (yield* touched).map(({ blocks, name, scans, writes }, index) => ({
      name,
      scansPerSecond: (scans - (before[index]?.scans ?? 0)) / costs.seconds,
      blocksPerSecond: (blocks - (before[index]?.blocks ?? 0)) / costs.seconds,
      writes: writes - (before[index]?.writes ?? 0)
    }))
    const percent = (100 * costs.cpu.programs) / costs.seconds
    yield* Console.error(`round ${round}: ${fixed(percent, 2)} % of a core`)
    return {
      round,
      ...costs,
      tables: tables.filter(
        ({ blocksPerSecond, scansPerSecond, writes }) => scansPerSecond + blocksPerSecond + writes > 0
      )
    }
  }).pipe(Effect.scoped, Effect.provide(Databases.layer(servers, `bench_idle_${round}`)), orError)

export const section: Section = {
  name: "idle",
  parts: [],
  run: (servers, { quick, runs }) =>
    Effect.gen(function* () {
      const done = yield* Effect.forEach(Array.range(1, runs), (round) => measure(servers, round, quick))
      const percent = (of: "programs" | "postgres" | "clickHouse") =>
        fixed(median(done.map(({ cpu, seconds }) => (100 * cpu[of]) / seconds)), 2)
      const names = Array.dedupe(done.flatMap(({ tables }) => tables.map(({ name }) => name))).sort()
      const ofTable = (name: string, value: "scansPerSecond" | "blocksPerSecond" | "writes") =>
        median(done.map(({ tables }) => tables.find((each) => each.name === name)?.[value] ?? 0))
      return {
        runs: done,
        tables: [
          {
            title: "A relay with nothing to do",
            table: table(
              ["", "% of a core"],
              [
                ["relay", percent("programs")],
                ["Postgres", percent("postgres")],
                ["ClickHouse", percent("clickHouse")]
              ]
            )
          },
          {
            title: "What it touches in Postgres",
            table: table(
              ["table", "scans per second", "blocks per second", "rows written"],
              names.length === 0
                ? [["none", ...["", "", ""]]]
                : names.map((name) => [
                    name,
                    fixed(ofTable(name, "scansPerSecond"), 2),
                    fixed(ofTable(name, "blocksPerSecond"), 2),
                    fixed(ofTable(name, "writes"), 0)
                  ])
            )
          }
        ],
        charts: []
      }
    })
}
