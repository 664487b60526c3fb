/**
 * What it costs to give space back: an outbox whose slots rotate every few seconds, as they do every half day where
 * nothing is set, under publishers at full speed.
 *
 * Nothing is vacuumed. One transaction publishes at its start and commits late, one session does nothing but hold an old
 * snapshot. Every event must be in ClickHouse once, and every slot emptied, or the run is an error.
 *
 * A stall that rotation causes is told from those of a machine with too few cores by when it is: a transaction counts as
 * near where it overlaps the time around a rotation, which is when new rows begin to go to another slot, or when a slot
 * is emptied. Postgres is also asked all the time what publishers wait for: a rotation could hold them up by a lock on a
 * table only. The goal: no stall of more than 100 ms.
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
