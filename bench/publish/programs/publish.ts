/**
 * What publishing costs a program: the same business transaction with the event in a plain table and through
 * `EventPublisher`, by 8 fibers; then statements of many events, one after the other. Kinds take turns.
 * Prints JSON.
 */
import { once } from "node:events"
import { SqlClient } from "@effect/sql"
import { Array, Clock, Effect, Layer, Schedule } from "effect"
import { median } from "../../harness/statistics.ts"
import { CONTEXT, TYPE } from "../tables.ts"

// The build, as it is installed: tsx, which runs this file, slows each function of the sources by naming it.
const { Event, EventPublisher, Postgres }: typeof import("clickhouse-outbox") = await import(
  new URL("../../../dist/index.js", import.meta.url).href
)

const SECONDS = Number(process.env.SECONDS)
const TURNS = 10
const FIBERS = 8
const SIZES = [100, 1_000, 10_000]

const contexts = (count: number) => Array.makeBy(count, (sequence) => ({ ...CONTEXT, sequence }))

const plain = (count: number) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const json = contexts(count).map((context) => JSON.stringify(context))
    yield* sql`
      INSERT INTO app.event (event_type, event_context)
      SELECT * FROM unnest(
        ${Array.replicate(TYPE, count)}::text[],
        ${`{${JSON.stringify(json).slice(1, -1)}}`}::jsonb[]
      )`
  })

const published = (count: number) =>
  EventPublisher.publishAll(contexts(count).map((eventContext) => Event.make({ eventType: TYPE, eventContext })))

const business = <E, R>(event: Effect.Effect<unknown, E, R>) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    sql.withTransaction(
      Effect.zipRight(sql`INSERT INTO app.users (email, plan) VALUES ('ada@example.com', 'free')`, event)
    )
  )

/** Transactions per second, by fibers that do nothing else for so long. */
const rate = <E, R>(transaction: Effect.Effect<unknown, E, R>, seconds: number) =>
  Effect.gen(function* () {
    const begun = yield* Clock.currentTimeMillis
    const until = begun + seconds * 1_000
    const counts = yield* Effect.all(
      Array.replicate(
        Effect.iterate(0, {
          while: () => Date.now() < until,
          body: (count) => Effect.as(transaction, count + 1)
        }),
        FIBERS
      ),
      { concurrency: "unbounded" }
    )
    const took = (yield* Clock.currentTimeMillis) - begun
    return counts.reduce((sum, count) => sum + count, 0) / (took / 1_000)
  })

const kinds = {
  plain: business(
    Effect.flatMap(
      SqlClient.SqlClient,
      (sql) => sql`INSERT INTO app.event (event_type, event_context) VALUES (${TYPE}, ${JSON.stringify(CONTEXT)})`
    )
  ),
  published: business(EventPublisher.publish(Event.make({ eventType: TYPE, eventContext: CONTEXT })))
}

const inTurns = <A, E, R, B, E2, R2>(one: Effect.Effect<A, E, R>, other: Effect.Effect<B, E2, R2>, turns: number) =>
  Effect.map(Effect.all(Array.replicate(Effect.all([one, other]), turns)), Array.unzip)

await Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* Effect.retry(sql`SELECT 1`, Schedule.recurs(3))
  // Warm up: both kinds have compiled what they need.
  yield* inTurns(rate(kinds.plain, 0.5), rate(kinds.published, 0.5), 1)
  process.stdout.write("ready\n")
  yield* Effect.promise(() => once(process.stdin, "data"))
  process.stdin.destroy()
  const [plainRates, publishedRates] = yield* inTurns(
    rate(kinds.plain, SECONDS / TURNS),
    rate(kinds.published, SECONDS / TURNS),
    TURNS
  )
  const single = { plain: median(plainRates), published: median(publishedRates) }
  const many = yield* Effect.forEach(SIZES, (size) =>
    Effect.gen(function* () {
      yield* inTurns(plain(size), published(size), 2)
      const time = <E, R>(statement: Effect.Effect<unknown, E, R>) =>
        Effect.gen(function* () {
          const begun = yield* Clock.currentTimeNanos
          yield* statement
          return Number((yield* Clock.currentTimeNanos) - begun) / 1e6
        })
      const [plainTimes, publishedTimes] = yield* inTurns(
        time(plain(size)),
        time(published(size)),
        Math.min(200, Math.max(5, Math.round((SECONDS * 5_000) / size)))
      )
      return { size, plain: median(plainTimes), published: median(publishedTimes) }
    })
  )
  process.stdout.write(`\n${JSON.stringify({ single, many })}\n`)
}).pipe(Effect.provide(EventPublisher.layerConfig.pipe(Layer.provideMerge(Postgres.layerConfig))), Effect.runPromise)
