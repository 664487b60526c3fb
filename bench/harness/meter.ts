/** What a stretch of time cost: processor, memory, and the log that Postgres wrote. */
import { SqlClient } from "@effect/sql"
import { Clock, Effect } from "effect"
import type { Servers } from "../databases.ts"
import { cpuSeconds, cpuSecondsOfTree, type Program, peakMemory } from "./processes.ts"

export interface Costs {
  readonly seconds: number
  /** Seconds of CPU: of the programs, of Postgres with all of its processes, of ClickHouse. */
  readonly cpu: { readonly programs: number; readonly postgres: number; readonly clickHouse: number }
  /** Of the programs together, each at its own peak, in bytes. */
  readonly peakMemory: number
  readonly walBytes: number
}

/** Where Postgres' log ends. */
export const walPosition = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql<{ bytes: number }>`SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8 AS bytes`
).pipe(Effect.map(([row]) => row?.bytes ?? Number.NaN))

const sum = (values: ReadonlyArray<number>) => values.reduce((total, value) => total + value, 0)

/**
 * Begins to count. Run `look` now and then: a process that has ended tells nothing any more, so what it took since the
 * last look is lost. `read` returns the sums.
 */
export const start = ([postgres, clickHouse]: Servers, programs: ReadonlyArray<Program>) =>
  Effect.gen(function* () {
    const pids = { postgres: yield* postgres.pid, clickHouse: yield* clickHouse.pid }
    const last = programs.map(({ pid }) => ({ pid, cpu: cpuSeconds(pid), memory: peakMemory(pid) }))
    const look = Effect.sync(() => {
      for (const seen of last) {
        const cpu = cpuSeconds(seen.pid)
        const memory = peakMemory(seen.pid)
        if (Number.isFinite(cpu)) seen.cpu = cpu
        if (Number.isFinite(memory)) seen.memory = memory
      }
    })
    const cpu = () => ({
      programs: sum(last.map(({ cpu }) => cpu)),
      postgres: cpuSecondsOfTree(pids.postgres),
      clickHouse: cpuSeconds(pids.clickHouse)
    })
    const wal = yield* walPosition
    const before = cpu()
    const begun = yield* Clock.currentTimeNanos
    const read = Effect.gen(function* () {
      const ended = yield* Clock.currentTimeNanos
      yield* look
      const after = cpu()
      const costs: Costs = {
        seconds: Number(ended - begun) / 1e9,
        cpu: {
          programs: after.programs - before.programs,
          postgres: after.postgres - before.postgres,
          clickHouse: after.clickHouse - before.clickHouse
        },
        peakMemory: sum(last.map(({ memory }) => memory)),
        walBytes: (yield* walPosition) - wal
      }
      return costs
    })
    return { look, read }
  })
