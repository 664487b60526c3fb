/** Giving back the space of delivered events: nothing that is still needed goes, and everything else does. */
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Arr from "effect/Array"
import * as Chunk from "effect/Chunk"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Ref from "effect/Ref"
import * as Stream from "effect/Stream"
import * as BatchFailures from "../../src/BatchFailures.ts"
import * as Event from "../../src/Event.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import * as Operations from "../../src/Operations.ts"
import { SLOTS } from "../../src/OutboxStore/Slots.ts"
import { OutboxStore, restamp } from "../../src/OutboxStore.ts"
import * as Environment from "../support/environment.ts"
import { counts } from "../support/eventLog.ts"
import * as Failures from "../support/failures.ts"
import * as Relay from "../support/relay.ts"
import { BOUND, until } from "../support/wait.ts"

const event = Event.make({ eventType: "reclaim_tested", eventContext: { note: "x".repeat(100) } })

const publish = (count: number) => EventPublisher.publishAll(Arr.replicate(event, count))

const maintain = (eventRetention: Duration.DurationInput) =>
  Effect.flatMap(OutboxStore, (store) =>
    store.maintain({
      eventRetention: Duration.decode(eventRetention),
      failureRetention: Duration.days(90),
      incidentAfter: Duration.minutes(1)
    })
  )

/** So short that whatever may go goes at once. */
const AT_ONCE = "1 millis"

/** As if what was written down of slots had been written so long ago. */
const later = (interval: string) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) => sql`
      UPDATE outbox.slot SET opened_at = opened_at - ${interval}::interval, left_at = left_at - ${interval}::interval
    `
  )

/** Once to leave the slot that events go to, once to empty it. */
const tidyUp = Effect.gen(function* () {
  const { movedTo } = yield* Effect.zipRight(Effect.sleep("5 millis"), maintain(AT_ONCE))
  const { emptied } = yield* Effect.zipRight(Effect.sleep("5 millis"), maintain(AT_ONCE))
  return { movedTo, emptied }
})

/** What each slot takes on disk without its empty indexes, in bytes. */
const sizes = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql<{ slot: number; bytes: number }>`
    SELECT slot, pg_relation_size(('outbox.event_slot_' || slot)::regclass)::float8 AS bytes
    FROM outbox.slot ORDER BY slot
  `
).pipe(Effect.map(Arr.map(({ bytes }) => bytes)))

const events = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql<{ count: number }>`SELECT count(*)::integer AS count FROM outbox.event`
).pipe(Effect.map(([row]) => row?.count))

const batchIds = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql<{ id: string }>`SELECT id FROM outbox.batch ORDER BY id`
).pipe(Effect.map(Arr.map(({ id }) => id)))

layer(Environment.layer(), { excludeTestServices: true })((it) => {
  it.effect(
    "The outbox gives the space of delivered events back to the disk, and forgets their batches after an hour",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* Effect.zipRight(publish(10), Relay.drain)
        yield* Effect.zipRight(publish(10), Relay.drain)
        yield* sql`UPDATE outbox.batch SET delivered_at = delivered_at - interval '61 minutes' WHERE id = 1`
        yield* Effect.zipRight(publish(980), Relay.drain)
        expect(yield* tidyUp).toEqual({ movedTo: 1, emptied: [0] })
        expect(yield* sizes).toEqual([0, 0, 0, 0])
        expect(yield* batchIds).toEqual(["2", "3"])
        yield* publish(10)
        yield* Relay.drain
        expect(yield* counts).toEqual({ rows: 1_010, events: 1_010 })
      }).pipe(Environment.fresh())
  )

  it.effect("The outbox comes round to every slot, again and again", () =>
    Effect.gen(function* () {
      for (const next of [1, 2, 3, 0, 1, 2]) {
        yield* publish(10)
        yield* Relay.drain
        expect(yield* tidyUp).toEqual({ movedTo: next, emptied: [(next + 3) % 4] })
      }
      expect(yield* sizes).toEqual([0, 0, 0, 0])
      expect(yield* counts).toEqual({ rows: 60, events: 60 })
    }).pipe(Environment.fresh())
  )

  it.effect("The outbox keeps events for as long as the retention says", () =>
    Effect.gen(function* () {
      yield* publish(10)
      yield* Relay.drain
      expect(yield* maintain("1 day")).toEqual({ emptied: [], movedTo: null })
      yield* later("13 hours")
      expect(yield* maintain("1 day")).toEqual({ emptied: [], movedTo: 1 })
      expect(yield* maintain("1 day")).toEqual({ emptied: [], movedTo: null })
      expect(yield* events).toBe(10)
      yield* later("25 hours")
      expect(yield* maintain("1 day")).toEqual({ emptied: [0], movedTo: null })
    }).pipe(Environment.fresh())
  )

  it.effect("The outbox has as many slots as relays go round, whoever counts them", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const [counted] = yield* sql`
        SELECT
          (SELECT count(*)::integer FROM pg_inherits WHERE inhparent = 'outbox.event'::regclass) AS tables,
          (SELECT count(*)::integer FROM outbox.slot) AS rows,
          (SELECT seqmax::integer + 1 FROM pg_sequence WHERE seqrelid = 'outbox.event_slot'::regclass) AS numbers
      `
      expect(counted).toEqual({ tables: SLOTS, rows: SLOTS, numbers: SLOTS })
    }).pipe(Environment.fresh())
  )

  it.effect("The outbox keeps a slot that holds an event which is not sealed", () =>
    Effect.gen(function* () {
      yield* publish(10)
      expect(yield* tidyUp).toEqual({ movedTo: 1, emptied: [] })
      yield* Relay.drain
      expect((yield* maintain(AT_ONCE)).emptied).toEqual([0])
      expect(yield* counts).toEqual({ rows: 10, events: 10 })
    }).pipe(Environment.fresh())
  )

  it.effect("The outbox keeps a slot that holds an event which is in the part of a window that is not sealed yet", () =>
    Effect.gen(function* () {
      const store = yield* OutboxStore
      yield* publish(25)
      yield* store.seal({ flush: true })
      const lease = yield* Effect.flatMap(store.lease("test"), Effect.orDie)
      yield* store.acknowledge(lease)
      expect(yield* tidyUp).toEqual({ movedTo: 1, emptied: [] })
      yield* Relay.drain
      expect((yield* maintain(AT_ONCE)).emptied).toEqual([0])
    }).pipe(Environment.fresh({ OUTBOX_BATCH_EVENTS: "10" }))
  )

  it.effect(
    "The outbox keeps a slot that holds an event of a batch that is not delivered, however many around it are",
    () =>
      Effect.gen(function* () {
        const store = yield* OutboxStore
        yield* publish(10)
        yield* store.seal({ flush: true })
        const held = yield* Effect.flatMap(store.lease("test"), Effect.orDie)
        yield* publish(10)
        yield* store.seal({ flush: true })
        yield* store.acknowledge(yield* Effect.flatMap(store.lease("test"), Effect.orDie))
        expect(yield* tidyUp).toEqual({ movedTo: 1, emptied: [] })
        const bytes = yield* Stream.runCollect(store.read(held.batch))
        expect(Chunk.reduce(bytes, 0, (sum, { length }) => sum + length)).toBeGreaterThan(1_000)
        yield* store.acknowledge(held)
        expect((yield* maintain(AT_ONCE)).emptied).toEqual([0])
      }).pipe(Environment.fresh())
  )

  it.effect(
    "The outbox keeps a slot that holds an event whose transaction is open, and was before everybody else's in it was delivered",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const published = yield* Deferred.make<void>()
        const mayCommit = yield* Deferred.make<void>()
        const late = yield* publish(5).pipe(
          Effect.zipRight(Deferred.succeed(published, undefined)),
          Effect.zipRight(Deferred.await(mayCommit)),
          sql.withTransaction,
          Effect.fork
        )
        yield* Deferred.await(published)
        yield* publish(10)
        yield* Relay.drain
        expect(yield* tidyUp).toEqual({ movedTo: 1, emptied: [] })
        yield* Deferred.succeed(mayCommit, undefined)
        yield* Fiber.join(late)
        expect((yield* maintain(AT_ONCE)).emptied).toEqual([])
        yield* Relay.drain
        expect((yield* maintain(AT_ONCE)).emptied).toEqual([0])
        expect(yield* counts).toEqual({ rows: 15, events: 15 })
      }).pipe(Environment.fresh())
  )

  it.effect(
    "The outbox keeps a slot that holds an event that somebody is reading, without making anybody wait for it",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* publish(10)
        yield* Relay.drain
        const reader = yield* sql.reserve
        yield* reader.executeRaw("BEGIN; SELECT count(*) FROM outbox.event", [])
        expect(yield* tidyUp).toEqual({ movedTo: 1, emptied: [] })
        yield* publish(1)
        yield* reader.executeRaw("COMMIT", [])
        expect((yield* maintain(AT_ONCE)).emptied).toEqual([0])
      }).pipe(Environment.fresh(), Effect.scoped)
  )

  it.effect("The outbox is not emptied by two relays at once", () =>
    Effect.gen(function* () {
      yield* publish(10)
      yield* Relay.drain
      yield* tidyUp
      yield* publish(10)
      yield* Relay.drain
      yield* maintain(AT_ONCE)
      yield* Effect.sleep("5 millis")
      const emptied: Array<number> = []
      const all = Effect.all(
        Arr.makeBy(4, () => maintain(AT_ONCE)),
        { concurrency: "unbounded" }
      )
      // Of several that try at once none may get the lock.
      yield* all.pipe(
        Effect.tap((reclaimed) => emptied.push(...reclaimed.flatMap((one) => one.emptied))),
        Effect.repeat({ until: () => emptied.length > 0, times: 50 })
      )
      expect(emptied).toEqual([1])
    }).pipe(Environment.fresh())
  )

  it.effect("The outbox goes on where the next slot cannot be emptied: no publisher is refused", () =>
    Effect.gen(function* () {
      const slots: Array<number | null> = []
      for (let n = 0; n < 5; n++) {
        yield* publish(10)
        slots.push((yield* Effect.zipRight(Effect.sleep("5 millis"), maintain(AT_ONCE))).movedTo)
      }
      expect(slots).toEqual([1, 2, 3, null, null])
      yield* Relay.drain
      expect((yield* maintain(AT_ONCE)).emptied).toEqual([0, 1, 2])
      expect(yield* counts).toEqual({ rows: 50, events: 50 })
    }).pipe(Environment.fresh())
  )

  it.effect("The outbox finds its way where a relay was killed just after it had moved on", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* publish(10)
      yield* maintain("1 day")
      yield* sql`SELECT setval('outbox.event_slot', 1)`
      yield* publish(10)
      yield* Relay.drain
      yield* maintain("1 day")
      yield* Effect.sleep("5 millis")
      expect(yield* maintain(AT_ONCE)).toEqual({ emptied: [0], movedTo: 2 })
    }).pipe(Environment.fresh())
  )

  it.effect("The outbox keeps what there is to know of failures", () =>
    Effect.gen(function* () {
      const { batchId } = yield* Failures.make([event])
      yield* publish(10)
      yield* Relay.drain
      expect((yield* tidyUp).emptied).toEqual([0])
      expect((yield* batchIds)[0]).toBe(String(batchId))
    }).pipe(Environment.fresh())
  )

  it.effect("The outbox says of an event that was replayed, and whose rows are gone, that it is delivered", () =>
    Effect.gen(function* () {
      const { eventId, failureId } = yield* Failures.make([event])
      const failures = yield* BatchFailures.BatchFailures
      const operations = yield* Operations.Operations
      yield* failures.replay(failureId, { actor: Failures.ADA })
      yield* Relay.drain
      expect((yield* tidyUp).emptied).toEqual([0])
      expect((yield* operations.where(eventId)).state).toBe("delivered")
    }).pipe(Effect.provide([BatchFailures.layer, Operations.layer]), Environment.fresh())
  )

  it.effect("The outbox goes to the next slot also where none can be emptied, and says why", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* publish(10)
      yield* Relay.drain
      yield* maintain("1 day")
      yield* sql`SELECT setval('outbox.event_slot', 1)`
      yield* publish(10)
      yield* maintain("1 day")
      yield* sql`ALTER TABLE outbox.slot ADD CHECK (emptied_at IS NULL)`
      yield* Effect.sleep("5 millis")
      expect(String((yield* Effect.flip(maintain(AT_ONCE))).cause)).toContain("violates check constraint")
      const [current] = yield* sql<{ slot: number }>`SELECT outbox.current_slot()::integer AS slot`
      expect(current?.slot).toBe(2)
    }).pipe(Environment.fresh())
  )

  it.effect("The outbox takes no new event for one that is gone, after it was moved to another cluster", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* publish(10)
      yield* Relay.drain
      // The slot is empty, and the batch is still there: as if a relay had been killed in between.
      yield* sql`TRUNCATE outbox.event`
      yield* sql`UPDATE outbox.batch SET from_snapshot = '1:1:', to_snapshot = '9999999:9999999:'`
      yield* sql`UPDATE outbox.batch SET first_tx_id = '1', last_tx_id = '9999999'`
      yield* restamp
      yield* publish(1)
      const states = yield* sql<{ status: string }>`SELECT status FROM outbox.event_status`
      expect(states).toEqual([{ status: "PENDING" }])
    }).pipe(Environment.fresh())
  )

  it.effect(
    "The outbox returns to its floor under load, and loses nothing: beside a long transaction and an old snapshot",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const slow = yield* publish(7).pipe(
          Effect.zipRight(Effect.sleep("3 seconds")),
          sql.withTransaction,
          Effect.fork
        )
        const reader = yield* sql.reserve
        yield* reader.executeRaw("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1", [])
        const relays = yield* Effect.all([Relay.start(), Relay.start()])
        const published = yield* Ref.make(7)
        const stop = yield* Deferred.make<void>()
        const publisher = publish(20).pipe(
          Effect.zipRight(Ref.update(published, (count) => count + 20)),
          Effect.repeat({ until: () => Deferred.isDone(stop) })
        )
        const publishers = yield* Effect.forkAll(Arr.replicate(publisher, 4))
        const moves = yield* Ref.make(new Set<number>())
        yield* sql<{ slot: number }>`SELECT outbox.current_slot()::integer AS slot`.pipe(
          Effect.tap(([row]) => Ref.update(moves, (seen) => seen.add(row?.slot ?? -1))),
          Effect.repeat({ until: () => Effect.map(Ref.get(moves), ({ size }) => size === 4) }),
          Effect.timeout(BOUND)
        )
        yield* Effect.sleep("2 seconds")
        yield* Deferred.succeed(stop, undefined)
        yield* Fiber.join(publishers)
        yield* Fiber.join(slow)
        const store = yield* OutboxStore
        yield* until(store.status, ({ backlog }) => backlog === 0)
        const total = yield* Ref.get(published)
        expect(yield* counts).toEqual({ rows: total, events: total })
        yield* reader.executeRaw("COMMIT", [])
        // One slot at the most holds events, and that one is not left before others come.
        yield* until(sizes, (bytes) => bytes.filter((size) => size > 0).length <= 1)
        yield* Effect.forEach(relays, Fiber.interrupt)
      }).pipe(
        Environment.fresh({
          OUTBOX_EVENT_RETENTION: "1 second",
          OUTBOX_LINGER: "50 millis",
          DATABASE_MAX_CONNECTIONS: "20"
        }),
        Effect.scoped
      )
  )
})
