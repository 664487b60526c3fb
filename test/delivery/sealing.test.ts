/** Sealing: committed events become batches; none is skipped, none is in two. */
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FastCheck from "effect/FastCheck"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import * as Ref from "effect/Ref"
import * as Stream from "effect/Stream"
import type { Batch } from "../../src/Batch.ts"
import * as Config from "../../src/Config.ts"
import * as Event from "../../src/Event.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import * as Store from "../../src/OutboxStore.ts"
import { ForeignDatabase, OutboxStore, Sealed } from "../../src/OutboxStore.ts"
import { SinkError } from "../../src/SinkError.ts"
import { transaction } from "../../src/Transaction.ts"
import * as Environment from "../support/environment.ts"
import { counts, eventLog } from "../support/eventLog.ts"
import * as Relay from "../support/relay.ts"
import { BOUND, until } from "../support/wait.ts"

const event = (eventContext: Event.JsonObject = {}) => Event.make({ eventType: "sealing_tested", eventContext })

const publishMany = (count: number) => EventPublisher.publishAll(Arr.makeBy(count, (n) => event({ n })))

/** Seals everything that is committed, and returns the new batches. */
const sealAll = Effect.gen(function* () {
  const store = yield* OutboxStore
  const batches: Array<Batch> = []
  yield* store.seal({ flush: true }).pipe(
    Effect.tap((sealed) => (sealed._tag === "Batch" ? batches.push(sealed.batch) : 0)),
    Effect.repeat({ until: Sealed.$is("Nothing") })
  )
  return batches
})

const eventIds = (batches: ReadonlyArray<Batch>) =>
  Effect.flatMap(OutboxStore, (store) => Effect.forEach(batches, store.eventIds)).pipe(Effect.map((ids) => ids.flat()))

const bytes = (batch: Batch) =>
  Effect.flatMap(OutboxStore, (store) => Stream.runCollect(store.read(batch))).pipe(
    Effect.map((chunks) => Buffer.concat(Arr.fromIterable(chunks)).toString())
  )

const sizes = (batches: ReadonlyArray<Batch>) => batches.map((batch) => batch.eventCount)

/** A transaction that publishes one event, and commits when it is told to. */
const openTransaction = Effect.gen(function* () {
  const published = yield* Deferred.make<string>()
  const mayCommit = yield* Deferred.make<void>()
  const fiber = yield* EventPublisher.publish(event()).pipe(
    Effect.tap((id) => Deferred.succeed(published, id)),
    Effect.zipLeft(Deferred.await(mayCommit)),
    transaction,
    Effect.fork
  )
  const eventId = yield* Deferred.await(published)
  return { eventId, commit: Effect.zipRight(Deferred.succeed(mayCommit, undefined), Fiber.join(fiber)) }
})

layer(Environment.layer({ DATABASE_MAX_CONNECTIONS: "60" }), { excludeTestServices: true })((it) => {
  {
    /** A transaction of up to 20 events, with savepoints, pauses and failures at random. Its committed events. */
    const randomTransaction = Effect.gen(function* () {
      const pause = Effect.flatMap(Random.nextIntBetween(0, 20), Effect.sleep)
      const givesUp = Effect.flatMap(Random.next, (chance) => (chance < 0.2 ? Effect.fail("gave up") : Effect.void))
      const some = Effect.flatMap(Random.nextIntBetween(1, 6), publishMany).pipe(Effect.zipLeft(pause))
      const inSavepoint = Effect.zipLeft(some, givesUp).pipe(
        transaction,
        Effect.catchIf(
          (error) => error === "gave up",
          () => Effect.succeed([])
        )
      )
      return yield* Effect.all([some, inSavepoint, some, inSavepoint]).pipe(
        Effect.zipLeft(Effect.zipRight(pause, givesUp)),
        Effect.map(Arr.flatten),
        transaction,
        Effect.catchIf(
          (error) => error === "gave up",
          () => Effect.succeed([])
        )
      )
    })

    it.effect(
      "Sealing of concurrent transactions every committed event is in exactly one batch, and no event that was rolled back",
      () =>
        Effect.gen(function* () {
          const { commit, eventId } = yield* openTransaction
          const batches = yield* Ref.make<ReadonlyArray<Batch>>([])
          const written = yield* Deferred.make<void>()
          const sealing = yield* Effect.tap(sealAll, (sealed) => Ref.update(batches, Arr.appendAll(sealed))).pipe(
            Effect.repeat({ until: () => Deferred.isDone(written) }),
            Effect.fork
          )
          const writers = Arr.makeBy(40, () => Effect.replicateEffect(randomTransaction, 10))
          const committed = yield* Effect.all(writers, { concurrency: "unbounded" })
          yield* Deferred.succeed(written, undefined)
          yield* Fiber.join(sealing)
          yield* commit
          const sealed = [...(yield* Ref.get(batches)), ...(yield* sealAll)]

          expect(sealed.length).toBeGreaterThan(5)
          expect((yield* eventIds(sealed)).sort()).toEqual([eventId, ...committed.flat(2)].sort())
        })
    )

    it.effect("Sealing of concurrent transactions two sealers at once never seal an event twice", () =>
      Effect.gen(function* () {
        const ids = yield* publishMany(500)
        const sealers = Effect.replicateEffect(sealAll, 4, { concurrency: "unbounded" })
        const sealed = yield* Effect.all([sealers, Effect.provide(sealers, Environment.another())], {
          concurrency: "unbounded"
        })
        expect((yield* eventIds(sealed.flat(2))).sort()).toEqual([...ids].sort())
      }).pipe(Environment.fresh({ OUTBOX_BATCH_EVENTS: "7" }))
    )
  }

  it.effect(
    "Sealing beside a long transaction others are delivered while it is open; what it published first is delivered when it commits last",
    () =>
      Effect.gen(function* () {
        const long = yield* openTransaction
        const others = yield* publishMany(3)
        yield* Relay.drain
        expect((yield* eventLog).map((row) => row.eventId)).toEqual(others)
        yield* long.commit
        yield* Relay.drain
        expect((yield* eventLog).map((row) => row.eventId)).toEqual([long.eventId, ...others])
      }).pipe(Environment.fresh())
  )

  it.effect("Sealing beside a long transaction nobody waits for one in another database of the cluster", () =>
    Effect.gen(function* () {
      const elsewhere = yield* openTransaction
      yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const published = yield* publishMany(3)
        const [oldest] = yield* sql`
            SELECT pg_snapshot_xmin(pg_current_snapshot()) < min(tx_id) AS "isOpen" FROM outbox.event
          `
        expect(oldest).toEqual({ isOpen: true })
        expect(yield* eventIds(yield* sealAll)).toEqual(published)
      }).pipe(Environment.fresh())
      yield* elsewhere.commit
    })
  )

  it.effect("Sealing seals batches of one transaction with 200,000 events, none larger than the limit", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const published = yield* sql<{ id: string }>`
          SELECT id
          FROM outbox.publish_all(
            ARRAY(SELECT 'sealing_tested' FROM generate_series(1, 200000)),
            ARRAY(SELECT jsonb_build_object('n', n) FROM generate_series(1, 200000) AS n)
          ) AS id
        `
      const batches = yield* sealAll
      expect(sizes(batches)).toEqual([60_000, 60_000, 60_000, 20_000])
      expect(yield* eventIds(batches)).toEqual(published.map(({ id }) => id))
    }).pipe(Environment.fresh({ OUTBOX_BATCH_EVENTS: "60000" }))
  )

  it.effect("Sealing seals batches of no more than 100 months, each of which is a part of ClickHouse's table", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const published = yield* sql<{ id: string }>`
          SELECT id
          FROM outbox.publish_all(
            ARRAY(SELECT 'sealing_tested' FROM generate_series(1, 4800)),
            ARRAY(SELECT jsonb '{}' FROM generate_series(1, 4800)),
            ARRAY(SELECT timestamptz '1900-01-15 00:00:00Z' + n * interval '1 month' FROM generate_series(0, 4799) AS n)
          ) AS id
        `
      // Of two months that are far apart, again and again.
      yield* sql`
          SELECT outbox.publish_all(
            ARRAY(SELECT 'sealing_tested' FROM generate_series(1, 500)),
            ARRAY(SELECT jsonb '{}' FROM generate_series(1, 500)),
            ARRAY(SELECT timestamptz '1950-01-15 00:00:00Z' + (n % 2) * interval '200 years' FROM generate_series(1, 500) AS n)
          )
        `
      const batches = yield* sealAll
      expect(sizes(batches)).toEqual([...Arr.replicate(100, 48), 500])
      expect((yield* eventIds(batches)).slice(0, 4_800)).toEqual(published.map(({ id }) => id))
    }).pipe(Environment.fresh())
  )

  it.effect("Sealing seals batches that are full by events or by bytes, whichever comes first", () =>
    Effect.gen(function* () {
      const config = yield* Config.outbox
      const example = FastCheck.record({
        lengths: FastCheck.array(FastCheck.integer({ min: 0, max: 400 }), { minLength: 1, maxLength: 60 }),
        batchEvents: FastCheck.integer({ min: 1, max: 20 }),
        batchBytes: FastCheck.integer({ min: 1, max: 2_000 })
      })
      for (const { batchBytes, batchEvents, lengths } of FastCheck.sample(example, 20)) {
        const store = Store.layer({ ...config, batchEvents, batchBytes: Config.Bytes.make(batchBytes) })
        const contexts = lengths.map((length) => ({ text: "ä".repeat(length) }))
        yield* EventPublisher.publishAll(contexts.map(event))
        const batches = yield* Effect.provide(sealAll, store)
        const weights = contexts.map((context) => Buffer.byteLength(JSON.stringify(context)) + 1)
        expect(batches.map(({ byteCount, eventCount }) => [eventCount, byteCount])).toEqual(
          greedily(weights, batchEvents, batchBytes)
        )
      }
    }).pipe(Environment.fresh())
  )

  it.effect("Sealing seals batches of one event that is larger than the limit, alone", () =>
    Effect.gen(function* () {
      const publish = (length: number) => EventPublisher.publish(event({ text: "x".repeat(length) }))
      const ids = yield* Effect.forEach([10, 5_000, 10], publish)
      const batches = yield* sealAll
      expect(sizes(batches)).toEqual([1, 1, 1])
      expect(yield* eventIds(batches)).toEqual(ids)
    }).pipe(Environment.fresh({ OUTBOX_BATCH_BYTES: "1000" }))
  )

  it.effect(
    "Sealing defines a batch for good: read again it has the same bytes, whatever was published and committed in between",
    () =>
      Effect.gen(function* () {
        const before = yield* openTransaction
        yield* publishMany(2)
        yield* sealAll
        const within = yield* openTransaction
        yield* before.commit
        yield* publishMany(5)
        const [batch] = yield* Effect.filterOrDieMessage(sealAll, Arr.isNonEmptyArray, "nothing was sealed")
        const first = yield* bytes(batch)
        expect(first.split("\n")).toHaveLength(1 + 5 + 1)

        yield* publishMany(5)
        expect(yield* bytes(batch)).toBe(first)
        yield* within.commit
        yield* sealAll
        expect(yield* bytes(batch)).toBe(first)
      }).pipe(Environment.fresh())
  )

  it.effect(
    "Sealing defines a batch for good: it can be read as slowly as it is taken, whatever the database's limit for statements",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const [database] = yield* sql<{ name: string }>`SELECT current_database() AS name`
        yield* EventPublisher.publishAll(Arr.makeBy(10, () => event({ text: "x".repeat(1_000_000) })))
        const [batch] = yield* Effect.filterOrDieMessage(sealAll, Arr.isNonEmptyArray, "nothing was sealed")
        yield* sql.unsafe(`ALTER DATABASE ${database?.name} SET statement_timeout = '1s'`)
        const pause = yield* Effect.once(Effect.sleep("1500 millis"))
        const size = yield* Effect.flatMap(OutboxStore, (store) =>
          store.read(batch).pipe(
            Stream.tap(() => pause),
            Stream.runFold(0, (sum, chunk) => sum + chunk.length)
          )
        ).pipe(Effect.provide(Environment.another()))
        expect(size).toBeGreaterThan(10_000_000)
      }).pipe(Environment.fresh())
  )

  it.effect(
    "Sealing ends when the relay's connections lead to another cluster, where transaction ids mean something else",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const store = yield* OutboxStore
        const relay = yield* Relay.start()
        yield* publishMany(1)
        yield* until(counts, ({ rows }) => rows === 1)
        yield* sql`UPDATE outbox.sealer SET system_identifier = 4711`
        yield* publishMany(1)
        const exit = yield* Effect.timeout(Fiber.await(relay), BOUND)
        expect(Exit.isFailure(exit) && Cause.squash(exit.cause)).toBeInstanceOf(ForeignDatabase)
        expect(yield* store.status).toMatchObject({ unsealed: 1 })
      }).pipe(Environment.fresh({ OUTBOX_LINGER: "10 millis" }))
  )

  it.effect(
    "Sealing reads what is new and nothing else, however much is kept: when it seals, reads, measures and counts",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const store = yield* OutboxStore
        yield* publishMany(20_000)
        const { commit } = yield* openTransaction
        yield* Relay.drain
        const version = sql<{ version: number }>`SELECT current_setting('server_version_num')::integer AS version`
        // A connection at rest may tell only seconds later what it has read: all are asked, each while the others are held.
        const flush = Effect.flatMap(version, ([row]) =>
          (row?.version ?? 0) >= 150_000
            ? sql`SELECT pg_stat_force_next_flush()`.pipe(
                Effect.zipLeft(Effect.sleep("300 millis")),
                sql.withTransaction,
                Effect.replicateEffect(4, { concurrency: "unbounded", discard: true })
              )
            : Effect.sleep("1 second")
        )
        const read = Effect.zipRight(
          Effect.zipRight(flush, Effect.sleep("1200 millis")),
          sql<{ entries: number }>`
          SELECT sum(idx_tup_read)::float8 AS entries FROM pg_stat_user_indexes WHERE relname LIKE 'event_slot%'
        `
        ).pipe(Effect.map(([row]) => row?.entries ?? 0))
        const costs = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
          Effect.gen(function* () {
            const before = yield* read
            yield* effect
            return (yield* read) - before
          })
        yield* publishMany(2)
        yield* commit
        expect(yield* costs(store.gauges)).toBeLessThan(50)
        expect(yield* costs(store.status)).toBeLessThan(50)
        const sealed = yield* sealAll
        expect(sizes(sealed)).toEqual([3])
        expect(yield* costs(Effect.zipRight(publishMany(2), sealAll))).toBeLessThan(50)
        expect(yield* costs(Effect.forEach(sealed, bytes))).toBeLessThan(50)
      }).pipe(Environment.fresh({ DATABASE_MAX_CONNECTIONS: "5" }))
  )

  {
    it.effect("Sealing waits for more events until the oldest has waited the linger, and no longer", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const store = yield* OutboxStore
        const waited = (interval: string) => sql`
          UPDATE outbox.event SET published_at = published_at - ${interval}::interval WHERE id = 1
        `
        const dueIn = Effect.map(store.seal(), (sealed) =>
          Sealed.$is("Waiting")(sealed) ? Duration.toMinutes(sealed.dueIn) : 0
        )
        yield* publishMany(1)
        expect(yield* dueIn).toBeCloseTo(60, -1)
        yield* publishMany(1)
        yield* waited("30 minutes")
        expect(yield* dueIn).toBeCloseTo(30, -1)
        yield* waited("30 minutes")
        const sealed = yield* store.seal()
        expect(Sealed.$is("Batch")(sealed) && sealed.batch.eventCount).toBe(2)
      }).pipe(Environment.fresh({ OUTBOX_LINGER: "1 hour" }))
    )

    it.effect("Sealing waits for more events but not once a batch is full", () =>
      Effect.gen(function* () {
        const store = yield* OutboxStore
        yield* publishMany(3)
        expect((yield* store.seal())._tag).toBe("Batch")
        yield* publishMany(2)
        expect((yield* store.seal())._tag).toBe("Waiting")
      }).pipe(Environment.fresh({ OUTBOX_LINGER: "1 hour", OUTBOX_BATCH_EVENTS: "3" }))
    )

    it.effect(
      "Sealing waits for more events for as many lingers as batches queue up in front of them, because small ones would lengthen the queue",
      () =>
        Effect.gen(function* () {
          const store = yield* OutboxStore
          yield* Effect.repeatN(Effect.zipRight(publishMany(1), store.seal({ flush: true })), 2)
          yield* publishMany(1)
          const dueIn = Effect.map(store.seal(), (sealed) =>
            sealed._tag === "Waiting" ? Duration.toMinutes(sealed.dueIn) : 0
          )
          expect(yield* dueIn).toBeCloseTo(3, 0)
          yield* store.lease("one")
          expect(yield* dueIn).toBeCloseTo(2, 0)
          yield* store.lease("another")
          yield* store.lease("a third")
          expect(yield* dueIn).toBeCloseTo(1, 0)
        }).pipe(Environment.fresh({ OUTBOX_LINGER: "1 minute" }))
    )

    it.effect("Sealing waits for more events but not behind batches that fail while others arrive", () =>
      Effect.gen(function* () {
        const store = yield* OutboxStore
        const error = new SinkError({ errorClass: "configuration", reason: "no such column", settled: true })
        const leased = publishMany(1).pipe(
          Effect.zipRight(store.seal({ flush: true })),
          Effect.zipRight(store.lease("one")),
          Effect.flatten
        )
        const failing = Effect.flatMap(leased, (lease) =>
          store.release(lease, { error, retryAfter: Duration.hours(1), incidentAfter: Duration.hours(1) })
        )
        const lingers = Effect.map(store.seal(), (sealed) =>
          Sealed.$is("Waiting")(sealed) ? Duration.toMinutes(sealed.dueIn) : 0
        )
        yield* Effect.repeatN(failing, 2)
        yield* publishMany(1)
        expect(yield* lingers).toBeCloseTo(3, 0)
        yield* Effect.flatMap(leased, store.acknowledge)
        yield* publishMany(1)
        expect(yield* lingers).toBeCloseTo(1, 0)
        yield* store.seal({ flush: true })
        yield* Effect.repeatN(failing, 1)
        yield* publishMany(1)
        expect(yield* lingers).toBeCloseTo(3, 0)
      }).pipe(Environment.fresh({ OUTBOX_LINGER: "1 minute" }))
    )

    const trickles: Record<
      string,
      Effect.Effect<unknown, unknown, EventPublisher.EventPublisher | SqlClient.SqlClient>
    > = {
      "a trickle of events": publishMany(1),
      "a trickle of transactions that each take longer than the linger": publishMany(1).pipe(
        Effect.zipLeft(Effect.sleep("400 millis")),
        transaction,
        Effect.fork
      )
    }
    for (const [trickle, publish] of Object.entries(trickles)) {
      it.effect(
        `Sealing waits for more events so that ${trickle} makes one batch per linger, and each event is delivered soon`,
        () =>
          Effect.gen(function* () {
            const sql = yield* SqlClient.SqlClient
            yield* Relay.start()
            const batches = sql<{ delivered: number; perLinger: number | null }>`
            SELECT
              count(delivered_at)::integer AS delivered,
              (count(*) - 1) / (nullif(extract(epoch FROM max(sealed_at) - min(sealed_at)), 0) / 0.3)::float8 AS "perLinger"
            FROM outbox.batch
          `
            // The trickle goes on until batches of it have arrived.
            const [seen] = yield* until(Effect.zipRight(publish, batches), ([row]) => (row?.delivered ?? 0) > 3)
            expect(seen?.perLinger).toBeLessThanOrEqual(1)
          }).pipe(Environment.fresh({ OUTBOX_LINGER: "300 millis", DATABASE_MAX_CONNECTIONS: "50" }))
      )
    }
  }
})

/** Sizes and weights of batches that take events in order as long as both limits admit. */
const greedily = (weights: ReadonlyArray<number>, batchEvents: number, batchBytes: number) => {
  const batches: Array<[number, number]> = []
  for (const weight of weights) {
    const last = batches.at(-1)
    if (last !== undefined && last[0] < batchEvents && last[1] + weight <= batchBytes) {
      last[0] += 1
      last[1] += weight
    } else batches.push([1, weight])
  }
  return batches
}
