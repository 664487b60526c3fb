/** A database that goes away: publishing depends on Postgres alone, and the relay catches up by itself. */
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as Event from "../../src/Event.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import { layer as clickHouse, EmbeddedClickHouse } from "../../src/embedded/EmbeddedClickHouse.ts"
import { EmbeddedPostgres, layer as postgres } from "../../src/embedded/EmbeddedPostgres.ts"
import { OutboxStore } from "../../src/OutboxStore.ts"
import * as Environment from "../support/environment.ts"
import { counts } from "../support/eventLog.ts"
import { batches } from "../support/manifest.ts"
import * as Relay from "../support/relay.ts"
import { until } from "../support/wait.ts"
import { isWhole } from "../support/whole.ts"

/** Commits reach the disk late, if at all: in a crash it loses what nobody has insisted on. */
const forgetfulPostgres = postgres({
  settings: { synchronous_commit: "off", wal_writer_delay: "10s", max_prepared_transactions: 1 }
})

const environment = Layer.unwrapEffect(
  Effect.map(Effect.all([EmbeddedPostgres, EmbeddedClickHouse]), ([postgres, clickHouse]) =>
    Environment.onServers({
      DATABASE_URL: postgres.url,
      CLICKHOUSE_URL: clickHouse.url,
      OUTBOX_LINGER: "20 millis",
      OUTBOX_BATCH_EVENTS: "500",
      OUTBOX_LEASE: "2 seconds",
      OUTBOX_RETRY_BASE: "20 millis",
      OUTBOX_RETRY_CAP: "200 millis"
    })
  )
).pipe(Layer.provideMerge(Layer.merge(forgetfulPostgres, clickHouse())))

/** Of three months, so that each batch becomes three parts in ClickHouse, which it does not store at once. */
const publish = (count: number) =>
  EventPublisher.publishAll(
    Arr.makeBy(count, (n) =>
      Event.make({
        eventType: "outage_tested",
        eventContext: { n },
        eventDateTime: new Date(Date.UTC(2026, n % 3, 1))
      })
    )
  )

/** A relay that has begun to work. */
const startRelay = Effect.zipLeft(
  Relay.start(),
  Effect.gen(function* () {
    const store = yield* OutboxStore
    yield* publish(1)
    yield* until(store.status, ({ backlog }) => backlog === 0)
  })
)

/** Every committed event is there, once: delivered by the relay that runs. */
const allArrive = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const store = yield* OutboxStore
  yield* until(store.status, ({ backlog }) => backlog === 0)
  const [committed] = yield* sql<{ events: number }>`SELECT count(*)::integer AS events FROM outbox.event`
  expect(yield* counts).toEqual({ rows: committed?.events, events: committed?.events })
})

const KILLS = isWhole ? 4 : 2

layer(environment, { excludeTestServices: true })((it) => {
  it.scoped(
    "When a database goes away, ClickHouse: publishing is not affected, and the relay delivers by itself when it is back",
    () =>
      Effect.gen(function* () {
        const server = yield* EmbeddedClickHouse
        yield* startRelay
        yield* server.kill
        yield* Effect.replicateEffect(publish(100), 20)
        yield* until(
          batches,
          Arr.some(({ state }) => state === "retrying")
        )
        yield* server.restart
        yield* allArrive
      })
  )

  it.scoped(
    "When a database goes away, ClickHouse, killed again and again while it inserts: every event arrives once",
    () =>
      Effect.gen(function* () {
        const server = yield* EmbeddedClickHouse
        yield* startRelay
        const publishing = yield* Effect.fork(Effect.forever(Effect.zipRight(publish(200), Effect.sleep("20 millis"))))
        for (let n = 0; n < KILLS; n++) {
          yield* Effect.flatMap(Random.nextIntBetween(100, 700), Effect.sleep)
          yield* server.kill
          yield* server.restart
        }
        yield* Fiber.interrupt(publishing)
        yield* allArrive
      })
  )

  it.scoped("When a database goes away, Postgres: the relay connects again by itself and carries on", () =>
    Effect.gen(function* () {
      const server = yield* EmbeddedPostgres
      const relay = yield* startRelay
      yield* publish(1_000)
      yield* server.restart
      yield* publish(1_000)
      yield* allArrive
      expect(yield* Fiber.poll(relay)).toMatchObject({ _tag: "None" })
    })
  )

  it.scoped(
    "When a database goes away, Postgres, killed again and again: every event that was committed arrives once, and no other",
    () =>
      Effect.gen(function* () {
        const server = yield* EmbeddedPostgres
        const relay = yield* startRelay
        const publishing = yield* Effect.fork(Effect.forever(Effect.exit(publish(50))))
        for (let n = 0; n < KILLS; n++) {
          yield* Effect.flatMap(Random.nextIntBetween(100, 500), Effect.sleep)
          yield* server.kill
          yield* server.restart
        }
        yield* Fiber.interrupt(publishing)
        yield* allArrive
        expect(yield* Fiber.poll(relay)).toMatchObject({ _tag: "None" })
      })
  )

  it.scoped(
    "When a database goes away and a transaction that was prepared for two-phase commit outlives it, its events arrive when it commits",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const server = yield* EmbeddedPostgres
        yield* startRelay
        const before = yield* counts
        yield* Effect.scoped(
          Effect.gen(function* () {
            const session = yield* sql.reserve
            yield* session.executeRaw("BEGIN", [])
            yield* session.executeRaw("SELECT outbox.publish('prepared', '{}')", [])
            yield* session.executeRaw("PREPARE TRANSACTION 'two-phase'", [])
          })
        )
        yield* publish(1)
        yield* allArrive
        yield* server.restart
        yield* publish(1)
        yield* allArrive
        expect(yield* counts).toEqual({ rows: before.rows + 2, events: before.events + 2 })
        yield* sql`COMMIT PREPARED 'two-phase'`
        yield* allArrive
        expect(yield* counts).toEqual({ rows: before.rows + 3, events: before.events + 3 })
      })
  )
})
