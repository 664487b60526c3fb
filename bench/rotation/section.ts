/**
 * What emptying slots costs publishers at full speed: slots rotate every few seconds instead of every half day, which is
 * the default.
 *
 * Nothing is vacuumed. One transaction publishes at its start and commits late, one idle session keeps an old snapshot.
 * Every event must be in ClickHouse once, and every slot emptied, or the run is an error.
 *
 * When a stall happens tells whether rotation caused it or a machine with too few cores: a transaction counts as near if
 * it overlaps the time around a rotation, which is when new rows begin to go to another slot, or when a slot is emptied.
 * Postgres is also polled for what publishers wait for: a rotation could delay them by a lock on a table only. The goal:
 * no stall of more than 100 ms.
 */
import { Array as Arr, Effect } from "effect"
import type { Section } from "../harness/Section.ts"
import { measure, type Sizes } from "./measure.ts"
import { chart, space, transactions, waited } from "./report.ts"

const FULL: Sizes = { retentionSeconds: 20, loadSeconds: 180, near: 1_000 }
const QUICK: Sizes = { retentionSeconds: 3, loadSeconds: 12, near: 200 }

export const section: Section = {
  name: "rotation",
  parts: [],
  run: (servers, { quick, runs }) =>
    Effect.gen(function* () {
      const sizes = quick ? QUICK : FULL
      const done = yield* Effect.forEach(Arr.range(1, runs), (round) => measure(servers, round, sizes))
      return {
        runs: done,
        tables: [
          { title: `Rotation, with a retention of ${sizes.retentionSeconds} seconds`, table: space(done) },
          { title: "What publishers notice of it", table: transactions(done, sizes.near) },
          { title: "What they wait for", table: waited(done) }
        ],
        charts: done.slice(0, 1).map((run) => ({ file: "rotation.svg", svg: chart(run) }))
      }
    })
}
