/**
 * What publishing costs an application's transaction, against the same event as a row of a plain table. The goals: at
 * least 0.9 of its transactions per second, at most 1.5 times its time for many events in one statement.
 */
import { SqlClient } from "@effect/sql"
import { Array, Console, Effect, Random, Schema } from "effect"
import * as Databases from "../databases.ts"
import { bars } from "../harness/chart.ts"
import { orError } from "../harness/Flawed.ts"
import { startScript } from "../harness/processes.ts"
import type { Section } from "../harness/Section.ts"
import { median } from "../harness/statistics.ts"
import { fixed, table, whole } from "../harness/table.ts"
import * as Pgbench from "./pgbench.ts"
import { PLAIN, USERS } from "./tables.ts"

const SYNCHRONOUS_COMMIT = ["on", "off"] as const

/** What its program prints. */
const Printed = Schema.parseJson(
  Schema.Struct({
    single: Schema.Struct({ plain: Schema.Number, published: Schema.Number }),
    many: Schema.Array(Schema.Struct({ size: Schema.Number, plain: Schema.Number, published: Schema.Number }))
  })
)

const PLAN = SYNCHRONOUS_COMMIT.flatMap((synchronousCommit) =>
  Pgbench.KINDS.map((kind) => ({ kind, synchronousCommit }))
)

/** In turns, each in another order: other load on the machine comes and goes more slowly than turns do. */
const withPgbench = (url: string, round: number, { seconds, turns }: { seconds: number; turns: number }) =>
  Effect.gen(function* () {
    const random = Random.make(`publish/${round}`)
    const done = yield* Effect.forEach(Array.range(1, turns), () =>
      Effect.flatMap(random.shuffle(PLAN), (plan) =>
        Effect.forEach(plan, ({ kind, synchronousCommit }) =>
          Effect.map(Pgbench.measure(url, kind, seconds, synchronousCommit), (rate) => ({
            kind,
            synchronousCommit,
            rate
          }))
        )
      )
    )
    return yield* Effect.forEach(PLAN, ({ kind, synchronousCommit }) => {
      const turns = [...done]
        .flat()
        .filter((each) => each.kind === kind && each.synchronousCommit === synchronousCommit)
      const rate = median(turns.map((turn) => turn.rate))
      return Effect.as(
        Console.error(`round ${round}, ${kind}, synchronous_commit=${synchronousCommit}: ${whole(rate)} tx/s`),
        { kind, synchronousCommit, rate }
      )
    })
  })

const measure = (servers: Databases.Servers, round: number, quick: boolean) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const variables = yield* Databases.Variables
    yield* sql.unsafe(`CREATE SCHEMA app; ${USERS}; ${PLAIN}`)
    const installed = yield* Pgbench.isInstalled
    if (!installed) yield* Console.error("left out: SQL by 8 clients: pgbench is not installed")
    const transactions = installed
      ? yield* withPgbench(variables.DATABASE_URL, round, quick ? { seconds: 1, turns: 2 } : { seconds: 2, turns: 7 })
      : []
    const program = yield* startScript("publish", new URL("./programs/publish.ts", import.meta.url), {
      ...variables,
      SECONDS: quick ? "2" : "20"
    })
    yield* program.go
    const printed = yield* program.finished
    const fromNode = yield* Schema.decode(Printed)(printed.slice(printed.indexOf("{")))
    yield* Console.error(`round ${round}, EventPublisher: ${whole(fromNode.single.published)} tx/s`)
    return { round, transactions, ...fromNode }
  }).pipe(Effect.scoped, Effect.provide(Databases.layer(servers, `bench_publish_${round}`)), orError)

type Run = Effect.Effect.Success<ReturnType<typeof measure>>

/** [what, plain, with an outbox, ratio] */
const rows = (runs: ReadonlyArray<Run>) => {
  const of = (value: (run: Run) => number | undefined) => median(runs.map((run) => value(run) ?? Number.NaN))
  const rate = (kind: Pgbench.Kind, synchronousCommit: "on" | "off") =>
    of(
      ({ transactions }) =>
        transactions.find((each) => each.kind === kind && each.synchronousCommit === synchronousCommit)?.rate
    )
  const transactions = [
    ...SYNCHRONOUS_COMMIT.map((each) => ({
      what: `transactions/s, SQL, synchronous_commit=${each}`,
      none: rate("no event", each),
      plain: rate("plain table", each),
      outbox: rate("outbox.publish", each)
    })),
    {
      what: "transactions/s, EventPublisher.publish",
      none: Number.NaN,
      plain: of(({ single }) => single.plain),
      outbox: of(({ single }) => single.published)
    }
  ]
  const statements = (runs[0]?.many ?? []).map(({ size }, index) => ({
    what: `ms, publishAll of ${size.toLocaleString("en")} events`,
    none: Number.NaN,
    plain: of(({ many }) => many[index]?.plain),
    outbox: of(({ many }) => many[index]?.published)
  }))
  return { transactions, statements }
}

export const section: Section = {
  name: "publish",
  parts: [],
  run: (servers, { quick, runs }) =>
    Effect.gen(function* () {
      const done = yield* Effect.forEach(Array.range(1, runs), (round) => measure(servers, round, quick))
      const { statements, transactions } = rows(done)
      const cells = [
        ...transactions.map((row) => ({ ...row, digits: 0 })),
        ...statements.map((row) => ({ ...row, digits: 1 }))
      ]
      return {
        runs: done,
        tables: [
          {
            title: "What publishing costs",
            table: table(
              ["", "no event", "plain table", "outbox", "ratio"],
              cells.map(({ digits, none, outbox, plain, what }) => [
                what,
                ...[none, plain, outbox].map((value) => fixed(value, digits)),
                fixed(outbox / plain, 2)
              ])
            )
          }
        ],
        charts: [
          {
            file: "publish.svg",
            svg: bars(
              "Transactions per second, with and without an outbox",
              "8 clients, each transaction one row of business and one event",
              transactions.flatMap(({ outbox, plain, what }) => [
                { label: `${what.replace("transactions/s, ", "")}: plain`, value: plain, text: whole(plain) },
                { label: "outbox", value: outbox, text: `${whole(outbox)} (${fixed(outbox / plain, 2)})`, own: true }
              ])
            )
          }
        ]
      }
    })
}
