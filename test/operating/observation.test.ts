/** What relays measure of the outbox: the truth, at a cost that does not grow with what waits. */
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Arr from "effect/Array"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Event from "../../src/Event.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import * as Operations from "../../src/Operations.ts"
import { OutboxStore } from "../../src/OutboxStore.ts"
import * as Environment from "../support/environment.ts"
import * as Failures from "../support/failures.ts"
import * as Relay from "../support/relay.ts"

const event = Event.make({ eventType: "observed", eventContext: { n: 1 } })

const publish = (count: number) => EventPublisher.publishAll(Arr.replicate(event, count))

const gauges = Effect.flatMap(OutboxStore, ({ gauges }) => gauges)

const seal = Effect.flatMap(OutboxStore, (store) => store.seal({ flush: true }))

const rolledBack = (count: number) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    Effect.ignore(sql.withTransaction(Effect.zipRight(publish(count), Effect.fail("rolled back"))))
  )

layer(Environment.layer(), { excludeTestServices: true })((it) => {
  it.effect("A relay sees nothing in an outbox that has never held an event", () =>
    Effect.gen(function* () {
      expect(yield* gauges).toMatchObject({
        backlogEvents: 0,
        oldestUndeliveredMillis: 0,
        undeliveredBatches: {},
        openFailures: 0,
        openIncidents: {},
        relayPaused: false
      })
    }).pipe(Environment.fresh())
  )

  it.effect(
    "A relay sees each event that waits once: before it is sealed, in a window that is being sealed, and in a batch",
    () =>
      Effect.gen(function* () {
        yield* publish(25)
        expect(yield* gauges).toMatchObject({ backlogEvents: 25, undeliveredBatches: {} })
        yield* seal
        expect(yield* gauges).toMatchObject({ backlogEvents: 25, undeliveredBatches: { sealed: 1 } })
        yield* publish(3)
        expect(yield* gauges).toMatchObject({ backlogEvents: 28 })
        yield* Effect.repeatN(seal, 5)
        expect(yield* gauges).toMatchObject({ backlogEvents: 28, undeliveredBatches: { sealed: 4 } })
        yield* Relay.drain
        expect(yield* gauges).toMatchObject({
          backlogEvents: 0,
          oldestUndeliveredMillis: 0,
          undeliveredBatches: {}
        })
      }).pipe(Environment.fresh({ OUTBOX_BATCH_EVENTS: "10" }))
  )

  it.effect("A relay sees no event of a transaction that was rolled back, from the next look of the sealer on", () =>
    Effect.gen(function* () {
      yield* rolledBack(7)
      yield* seal
      expect(yield* gauges).toMatchObject({ backlogEvents: 0 })
      yield* rolledBack(7)
      yield* publish(2)
      expect((yield* gauges).backlogEvents).toBeGreaterThanOrEqual(2)
      yield* seal
      expect(yield* gauges).toMatchObject({ backlogEvents: 2 })
    }).pipe(Environment.fresh())
  )

  it.effect("A relay sees how long the oldest event has waited, whether it is sealed or not", () =>
    Effect.gen(function* () {
      yield* publish(1)
      yield* Effect.sleep("300 millis")
      yield* publish(15)
      for (let looks = 0; looks < 3; looks++) {
        const { oldestUndeliveredMillis } = yield* gauges
        expect(oldestUndeliveredMillis).toBeGreaterThanOrEqual(300)
        expect(oldestUndeliveredMillis).toBeLessThan(600_000)
        yield* seal
      }
    }).pipe(Environment.fresh({ OUTBOX_BATCH_EVENTS: "10" }))
  )

  it.effect("A relay sees failures, what of them was replayed, and a pause", () =>
    Effect.gen(function* () {
      const { pause } = yield* Operations.Operations
      yield* Failures.make([event, event, event])
      yield* pause({ reason: "maintenance", actor: Failures.ADA })
      const seen = yield* gauges
      expect(seen).toMatchObject({ openFailureEvents: 3, relayPaused: true })
      expect(seen.openFailures).toBeGreaterThan(0)
    }).pipe(Effect.provide(Operations.layer), Environment.fresh())
  )

  it.effect("A relay sees what each slot takes on disk", () =>
    Effect.gen(function* () {
      const before = (yield* gauges).slotBytes
      expect(Object.keys(before).sort()).toEqual(["0", "1", "2", "3"])
      yield* publish(5_000)
      const after = (yield* gauges).slotBytes
      expect(after["0"]).toBeGreaterThan((before["0"] ?? 0) + 100_000)
      expect(after["1"]).toBe(before["1"])
    }).pipe(Environment.fresh())
  )

  it.effect("A relay sees events of a long transaction from its commit on, though nobody seals", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const published = yield* Deferred.make<void>()
      const mayCommit = yield* Deferred.make<void>()
      const transaction = yield* publish(100).pipe(
        Effect.zipRight(Deferred.succeed(published, undefined)),
        Effect.zipRight(Deferred.await(mayCommit)),
        sql.withTransaction,
        Effect.fork
      )
      yield* Deferred.await(published)
      yield* seal
      yield* Deferred.succeed(mayCommit, undefined)
      yield* Fiber.join(transaction)
      expect(yield* gauges).toMatchObject({ backlogEvents: 100 })
    }).pipe(Environment.fresh())
  )

  it.effect("A relay sees all of it without reading an event but the oldest, however many wait", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* publish(20_000)
      const version = sql<{ version: number }>`SELECT current_setting('server_version_num')::integer AS version`
      // Before 15 a backend told its statistics after half a second, if it was used then.
      const flush = Effect.flatMap(version, ([row]) =>
        (row?.version ?? 0) >= 150_000
          ? Effect.asVoid(sql`SELECT pg_stat_force_next_flush()`)
          : Effect.sleep("1 second")
      )
      const reads = Effect.zipRight(
        Effect.zipRight(flush, Effect.sleep("1200 millis")),
        sql<{ tuples: number }>`
          SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::float8 AS tuples
          FROM pg_stat_user_tables
          WHERE schemaname = 'outbox' AND relname LIKE 'event_slot%'
        `
      ).pipe(Effect.map(([row]) => row?.tuples ?? 0))
      const before = yield* reads
      yield* Effect.repeatN(gauges, 9)
      expect((yield* reads) - before).toBeLessThan(100)
      // What is read is seen.
      yield* sql`SELECT count(*) FROM outbox.event`
      expect((yield* reads) - before).toBeGreaterThanOrEqual(20_000)
    }).pipe(Environment.fresh({ DATABASE_MAX_CONNECTIONS: "4" }))
  )
})
