/** A cluster of two replicas: an event arrives once whichever replica is written to, asked, behind or killed. */
import { randomUUID } from "node:crypto"
import { expect, layer, it as plain } from "@effect/vitest"
import * as Arr from "effect/Array"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { ClickHouseSink } from "../../src/ClickHouseSink.ts"
import * as Config from "../../src/Config.ts"
import * as Event from "../../src/Event.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import * as Migrations from "../../src/Migrations.ts"
import { OutboxStore } from "../../src/OutboxStore.ts"
import { SinkError } from "../../src/SinkError.ts"
import * as Cluster from "../support/cluster.ts"
import * as Environment from "../support/environment.ts"
import { counts } from "../support/eventLog.ts"
import { batches, isDelivered } from "../support/manifest.ts"
import * as Relay from "../support/relay.ts"
import * as Replicas from "../support/replicas.ts"
import { until } from "../support/wait.ts"

class Servers extends Context.Tag("test/Servers")<
  Servers,
  { readonly first: Replicas.Replica; readonly second: Replicas.Replica }
>() {}

const publish = (count: number) =>
  EventPublisher.publishAll(
    Arr.makeBy(count, (n) =>
      Event.make({
        eventType: "cluster_tested",
        eventContext: { n },
        eventDateTime: new Date(Date.UTC(2026, n % 3, 1))
      })
    )
  )

/** Runs a test on a table of its own that `migrate` has made on both replicas, through the first one. */
const onCluster =
  (overrides: Readonly<Record<string, string>> = {}) =>
  <A, E, R>(test: Effect.Effect<A, E, R>) =>
    Effect.gen(function* () {
      const { first } = yield* Servers
      const url = yield* first.url
      const database = `outbox_${randomUUID().replaceAll("-", "")}`
      yield* Effect.acquireRelease(Cluster.send(url, `CREATE DATABASE ${database} ON CLUSTER events`), () =>
        Effect.flatMap(first.url, (now) => Cluster.send(now, `DROP DATABASE ${database} ON CLUSTER events SYNC`))
      )
      return yield* Effect.provide(
        Effect.scoped(test),
        Environment.layer({
          CLICKHOUSE_URL: url,
          CLICKHOUSE_DATABASE: database,
          CLICKHOUSE_CLUSTER: "events",
          ...overrides
        })
      )
    }).pipe(Effect.scoped)

/** The services as a relay has them that is configured with another replica's address. */
const through = (replica: Replicas.Replica, overrides: Readonly<Record<string, string>> = {}) =>
  Layer.unwrapEffect(Effect.map(replica.url, (url) => Environment.another({ CLICKHOUSE_URL: url, ...overrides })))

const inTheDatabase = (replica: Replicas.Replica, statement: string) =>
  Effect.gen(function* () {
    const { CLICKHOUSE_DATABASE = "" } = yield* Environment.Environment
    return yield* Cluster.send(`${yield* replica.url}/?database=${CLICKHOUSE_DATABASE}`, statement)
  })

/** Seals and leases the batch of everything published, inserts it, and leaves that attempt in doubt. */
const inDoubt = Effect.gen(function* () {
  const store = yield* OutboxStore
  const sink = yield* ClickHouseSink
  yield* store.seal({ flush: true })
  const lease = Option.getOrThrow(yield* store.lease("by hand"))
  yield* sink.insert({ ...lease.batch, rows: store.read(lease.batch) })
  const error = new SinkError({ errorClass: "in-doubt", reason: "no answer", settled: false })
  yield* store.release(lease, { error, retryAfter: Duration.zero, incidentAfter: Duration.hours(1) })
  return lease.batch
})

const settled = (replica: Replicas.Replica, events: number) =>
  Effect.gen(function* () {
    yield* inTheDatabase(replica, "SYSTEM SYNC REPLICA event_log LIGHTWEIGHT")
    expect(yield* Effect.provide(counts, through(replica))).toEqual({ rows: events, events })
  })

const promises = () =>
  layer(Layer.scoped(Servers, Replicas.make), { excludeTestServices: true })((it) => {
    it.effect("A cluster migrate makes the table on every host, and a second time changes nothing", () =>
      Effect.gen(function* () {
        const { first, second } = yield* Servers
        yield* Effect.flatMap(Config.clickHouse, Migrations.clickHouse)
        for (const replica of [first, second]) {
          expect(yield* inTheDatabase(replica, "EXISTS TABLE event_log")).toBe("1\n")
          const window = yield* Effect.flatMap(ClickHouseSink, (sink) =>
            Effect.zipRight(sink.check, sink.deduplicationWindow)
          ).pipe(Effect.provide(through(replica)))
          expect(window).toEqual({ parts: 10_000, age: Duration.weeks(1) })
        }
      }).pipe(onCluster())
    )

    it.effect("A cluster an attempt through one replica is repeated through the other, and changes nothing", () =>
      Effect.gen(function* () {
        const { first, second } = yield* Servers
        yield* publish(1_000)
        yield* inDoubt
        yield* Effect.provide(Relay.drain, through(second))
        expect(yield* batches).toMatchObject([{ attempts: 2, repaired: null }])
        yield* settled(first, 1_000)
        yield* settled(second, 1_000)
      }).pipe(onCluster())
    )

    it.effect(
      "A cluster a replica that lags behind does not say that events are missing; once it has them it says so",
      () =>
        Effect.gen(function* () {
          const { second } = yield* Servers
          const store = yield* OutboxStore
          yield* inTheDatabase(second, "SYSTEM STOP FETCHES event_log")
          yield* publish(1_000)
          const batch = yield* inDoubt
          const eventIds = yield* store.eventIds(batch)
          const missing = Effect.flatMap(ClickHouseSink, (sink) => sink.missing(batch, eventIds)).pipe(
            Effect.provide(through(second, { CLICKHOUSE_REQUEST_TIMEOUT: "4 seconds" }))
          )
          expect(yield* Effect.provide(counts, through(second))).toEqual({ rows: 0, events: 0 })
          expect(yield* Effect.flip(missing)).toMatchObject({ errorClass: "in-doubt", settled: false })
          yield* inTheDatabase(second, "SYSTEM START FETCHES event_log")
          expect(yield* missing).toEqual([])
        }).pipe(onCluster())
    )

    it.effect("A cluster inserts that wait for a quorum are delivered by two workers like any others", () =>
      Effect.gen(function* () {
        const { first } = yield* Servers
        const url = new URL(yield* first.url)
        url.searchParams.set("clickhouse_setting_insert_quorum", "2")
        yield* publish(2_000)
        yield* Effect.provide(Relay.drain, Environment.another({ CLICKHOUSE_URL: url.href }))
        yield* settled(first, 2_000)
      }).pipe(onCluster({ OUTBOX_BATCH_EVENTS: "100", OUTBOX_WORKERS: "2" }))
    )

    it.effect(
      "A cluster a replica that is killed in the middle of a drain, behind a balancer, loses and doubles nothing",
      () =>
        Effect.gen(function* () {
          const { first, second } = yield* Servers
          let addresses = [yield* first.url, yield* second.url]
          let turn = 0
          const url = yield* Cluster.balancer(() => ({ to: addresses[turn++ % addresses.length] ?? "" }))
          const { CLICKHOUSE_DATABASE = "" } = yield* Environment.Environment
          yield* publish(20_000)
          yield* Relay.start({ CLICKHOUSE_URL: url, CLICKHOUSE_DATABASE })
          yield* until(batches, (all) => all.filter(isDelivered).length >= 5)
          yield* second.kill
          yield* until(batches, (all) => all.filter(isDelivered).length >= 10)
          expect((yield* batches).every(isDelivered)).toBe(false)
          addresses = [yield* first.url]
          yield* second.restart
          addresses = [yield* first.url, yield* second.url]
          yield* until(batches, Arr.every(isDelivered))
          yield* settled(first, 20_000)
          yield* settled(second, 20_000)
        }).pipe(
          onCluster({
            OUTBOX_BATCH_EVENTS: "200",
            OUTBOX_LINGER: "20 millis",
            OUTBOX_RETRY_BASE: "20 millis",
            OUTBOX_RETRY_CAP: "500 millis"
          })
        )
    )

    it.effect("A cluster migrate says to run it again while a host is away, whose table is there once it is back", () =>
      Effect.gen(function* () {
        const { second } = yield* Servers
        const config = yield* Config.clickHouse
        const migrate = Migrations.clickHouse({
          ...config,
          table: "another_log",
          requestTimeout: Duration.seconds(10)
        })
        yield* second.kill
        const error = yield* Effect.flip(migrate)
        yield* second.restart
        expect(error).toMatchObject({
          code: 159,
          reason: expect.stringContaining('run "clickhouse-outbox migrate" again')
        })
        yield* migrate
        expect(yield* inTheDatabase(second, "EXISTS TABLE another_log")).toBe("1\n")
      }).pipe(onCluster())
    )
  })

if (await Effect.runPromise(Replicas.dockerAnswers)) promises()
else {
  plain("of two replicas and a Keeper", (context) => context.skip("needs Docker, whose engine does not answer here"))
}
