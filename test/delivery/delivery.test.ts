/** Delivery: whatever breaks, every committed event arrives, and arrives once. */
import { existsSync } from "node:fs"
import * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import { describe, expect, layer } from "@effect/vitest"
import * as Arr from "effect/Array"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Stream from "effect/Stream"
import type { Lease } from "../../src/Batch.ts"
import { ClickHouse } from "../../src/ClickHouse.ts"
import { ClickHouseSink } from "../../src/ClickHouseSink.ts"
import * as Event from "../../src/Event.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import { type BatchChanged, OutboxStore } from "../../src/OutboxStore.ts"
import { SinkError } from "../../src/SinkError.ts"
import * as Environment from "../support/environment.ts"
import { counts, eventLog } from "../support/eventLog.ts"
import * as Acknowledgements from "../support/holdAcknowledgements.ts"
import { batches, isDelivered } from "../support/manifest.ts"
import * as Proxy from "../support/proxy.ts"
import * as Relay from "../support/relay.ts"
import { BOUND, until } from "../support/wait.ts"

const publish = (count: number, text = "x".repeat(100)) =>
  EventPublisher.publishAll(
    Arr.makeBy(count, (n) => Event.make({ eventType: "delivery_tested", eventContext: { n, text } }))
  )

/** Waits for the relays that run: they are to do it without help. */
const arrived = (events: number) => until(counts, ({ rows }) => rows >= events)

/** Everything that was published is there, once, and the outbox is empty. */
const expectDelivered = (events: number) =>
  Effect.gen(function* () {
    yield* Relay.drain
    expect(yield* counts).toEqual({ rows: events, events })
  })

layer(Environment.layer(), { excludeTestServices: true })((it) => {
  it.effect("When connections to Postgres break, again and again, the relay carries on by itself", () =>
    Effect.gen(function* () {
      const proxy = yield* postgresProxy
      const relay = yield* Relay.start({ DATABASE_URL: proxy.url })
      yield* publish(1)
      yield* arrived(1)
      const interference = yield* Effect.fork(Effect.forever(Effect.delay(proxy.cut, "30 millis")))
      yield* Effect.repeatN(Effect.zipRight(publish(100), Effect.sleep("20 millis")), 49)
      yield* Fiber.interrupt(interference)
      expect(yield* Fiber.poll(relay)).toEqual(Option.none())
      yield* arrived(5_001)
      yield* expectDelivered(5_001)
    }).pipe(Environment.fresh({ OUTBOX_LINGER: "50 millis", OUTBOX_LEASE: "1 second", OUTBOX_RETRY_BASE: "20 millis" }))
  )

  it.effect("When connections to Postgres break, in the middle of an event's id, half an id is taken for none", () =>
    Effect.gen(function* () {
      const [first = "", second = ""] = yield* publish(2)
      const sealed = yield* Effect.flatMap(OutboxStore, ({ seal }) => seal({ flush: true }))
      if (sealed._tag !== "Batch") return expect.unreachable()
      const proxy = yield* postgresProxy
      yield* proxy.cutNext(({ bytes, from }) => {
        const at = bytes.indexOf(second)
        return from === "client" || at === -1 ? undefined : at + 2
      })
      yield* Effect.gen(function* () {
        const { eventIds } = yield* OutboxStore
        expect((yield* Effect.flip(eventIds(sealed.batch)))._tag).toBe("SqlError")
        expect(yield* proxy.wasCut).toBe(true)
        expect(yield* eventIds(sealed.batch)).toEqual([first, second])
      }).pipe(Effect.provide(Environment.another({ DATABASE_URL: proxy.url })))
    }).pipe(Environment.fresh())
  )

  it.effect(
    "When a relay dies, by SIGKILL between ClickHouse's yes and the acknowledgement, another delivers nothing twice",
    () =>
      Effect.gen(function* () {
        const acknowledgements = yield* Acknowledgements.make
        const relay = yield* Relay.startProcess()
        yield* publish(1_000)
        yield* acknowledgements.arrived(1)
        expect(yield* counts).toEqual({ rows: 1_000, events: 1_000 })
        yield* relay.kill("SIGKILL")
        expect(yield* relay.ended).toBe("SIGKILL")
        yield* acknowledgements.breakOff
        yield* acknowledgements.release
        expect((yield* batches).some(isDelivered)).toBe(false)

        yield* leasesRunOut
        yield* expectDelivered(1_000)
        expect(yield* batches).toMatchObject([{ state: "delivered", attempts: 2 }])
      }).pipe(Environment.fresh({ OUTBOX_LINGER: "10 millis" }))
  )

  it.effect("When a relay dies, by SIGKILL at any moment, again and again, every event arrives once", () =>
    Effect.gen(function* () {
      const killing = yield* Effect.fork(
        Effect.repeatN(
          Effect.scoped(
            Effect.gen(function* () {
              const relay = yield* Relay.startProcess()
              yield* until(works(relay), (begun) => begun)
              yield* Effect.flatMap(Random.nextIntBetween(0, 500), Effect.sleep)
            })
          ),
          3
        )
      )
      const publishing = Effect.zipRight(publish(100), Effect.sleep("50 millis")).pipe(
        Effect.repeat({ until: () => Effect.map(Fiber.poll(killing), Option.isSome) })
      )
      yield* publishing
      yield* Fiber.join(killing)
      const [published] = yield* (yield* SqlClient.SqlClient)<{ count: number }>`
          SELECT count(*)::integer AS count FROM outbox.event
        `
      yield* expectDelivered(published?.count ?? 0)
    }).pipe(Environment.fresh({ OUTBOX_LINGER: "20 millis", OUTBOX_LEASE: "500 millis", OUTBOX_BATCH_EVENTS: "200" }))
  )

  it.effect(
    "When a relay dies, its lease keeps others away until it runs out; then one of them repeats the identical batch",
    () =>
      Effect.gen(function* () {
        const store = yield* OutboxStore
        const sink = yield* ClickHouseSink
        yield* publish(100)
        yield* store.seal({ flush: true })
        const { batch } = Option.getOrThrow(yield* store.lease("a worker that dies"))
        yield* sink.insert({ ...batch, rows: store.read(batch) })
        expect(yield* store.lease("too early")).toEqual(Option.none())
        yield* leasesRunOut
        expect(Option.getOrThrow(yield* store.lease("another"))).toMatchObject({
          batch,
          inDoubt: true,
          expired: true,
          attempt: 2
        })
        yield* expectDelivered(100)
      }).pipe(Environment.fresh())
  )

  {
    const leases = Effect.flatMap(
      SqlClient.SqlClient,
      (sql) => sql`SELECT FROM outbox.batch WHERE lease_id IS NOT NULL AND state = 'pending'`
    )

    it.effect(
      "When a relay is stopped, it finishes the batches in flight, begins no other, and leaves no lease behind",
      () =>
        Effect.gen(function* () {
          const acknowledgements = yield* Acknowledgements.make
          const relay = yield* Relay.start()
          yield* publish(100)
          yield* acknowledgements.arrived(2)
          const stopping = yield* Effect.fork(Fiber.interrupt(relay))
          yield* Effect.sleep("200 millis")
          expect(yield* Fiber.poll(stopping)).toEqual(Option.none())
          yield* acknowledgements.release
          yield* Fiber.join(stopping)
          expect((yield* batches).filter(isDelivered)).toHaveLength(2)
          expect(yield* leases).toEqual([])
          expect(yield* counts).toEqual({ rows: 20, events: 20 })
        }).pipe(Environment.fresh({ OUTBOX_LINGER: "10 millis", OUTBOX_BATCH_EVENTS: "10", OUTBOX_WORKERS: "2" }))
    )

    it.effect(
      "When a relay is stopped, it releases what does not finish within the grace, and another delivers that once",
      () =>
        Effect.gen(function* () {
          const acknowledgements = yield* Acknowledgements.make
          const relay = yield* Relay.start({ OUTBOX_SHUTDOWN_GRACE: "200 millis" })
          yield* publish(100)
          yield* acknowledgements.arrived(1)
          // What it waits for does not come: it ends all the same.
          yield* Effect.timeout(Fiber.interrupt(relay), BOUND)
          expect(yield* leases).toEqual([])
          yield* acknowledgements.release
          yield* expectDelivered(100)
        }).pipe(Environment.fresh({ OUTBOX_LINGER: "10 millis" }))
    )
  }

  describe.runIf(existsSync("/proc/self/status"))("of a large backlog", () => {
    it.effect("Delivery of a large backlog takes no more memory than that of a small one", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const relay = yield* Relay.startProcess({ NODE_OPTIONS: "--max-old-space-size=64" })
        yield* publish(1)
        yield* arrived(1)
        const before = yield* relay.peakMemory
        yield* sql`
          SELECT count(*)
          FROM outbox.publish_all(
            ARRAY(SELECT 'delivery_tested' FROM generate_series(1, 60000)),
            ARRAY(SELECT jsonb_build_object('text', repeat(md5(n::text), 80)) FROM generate_series(1, 60000) AS n)
          )
        `
        yield* arrived(60_001)
        const grown = (yield* relay.peakMemory) - before
        const [sent] = yield* sql<{ bytes: number }>`SELECT sum(byte_count)::float8 AS bytes FROM outbox.batch`
        expect(sent?.bytes).toBeGreaterThan(150_000_000)
        expect(grown).toBeLessThan(80_000_000)
      }).pipe(Environment.fresh({ OUTBOX_LINGER: "10 millis" }))
    )
  })

  it.effect("Delivery by several relays is shared between them, and each event arrives once", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const acknowledgements = yield* Acknowledgements.make
      yield* publish(4_000)
      yield* Relay.startProcess()
      yield* Relay.startProcess()
      yield* acknowledgements.arrived(2 * 2)
      yield* acknowledgements.release
      yield* arrived(4_000)
      yield* expectDelivered(4_000)
      const owners = yield* sql<{ relay: string; batches: number }>`
          SELECT split_part(lease_owner, '/', 2) AS relay, count(*)::integer AS batches
          FROM outbox.batch GROUP BY 1
        `
      expect(owners).toHaveLength(2)
      expect(yield* batches).toHaveLength(40)
      expect((yield* batches).every(({ attempts }) => attempts === 1)).toBe(true)
    }).pipe(Environment.fresh({ OUTBOX_BATCH_EVENTS: "100", OUTBOX_WORKERS: "2" }))
  )

  it.effect(
    "When an attempt is in doubt because the answer to its insert was lost, it is repeated and changes nothing",
    () =>
      Effect.gen(function* () {
        const proxy = yield* clickHouseProxy
        yield* proxy.cutNext(({ from, request }) => (from === "server" && isInsert(request) ? 0 : undefined))
        yield* Relay.start({ CLICKHOUSE_URL: proxy.url })
        yield* publish(1_000)
        yield* until(proxy.wasCut, (was) => was)
        expect(yield* counts).toEqual({ rows: 1_000, events: 1_000 })
        yield* until(batches, Arr.every(isDelivered))
        expect(yield* batches).toMatchObject([{ attempts: 2, repaired: null }])
        yield* expectDelivered(1_000)
      }).pipe(Environment.fresh({ OUTBOX_LINGER: "10 millis" }))
  )

  it.effect("When an attempt is in doubt because its connection broke in the middle, it is repeated", () =>
    Effect.gen(function* () {
      const proxy = yield* clickHouseProxy
      yield* proxy.cutNext(({ request, sent }) => (isInsert(request) && sent > 500_000 ? 0 : undefined))
      yield* Relay.start({ CLICKHOUSE_URL: proxy.url })
      yield* publish(10_000)
      yield* until(batches, (all) => all.length > 0 && all.every(isDelivered))
      expect(yield* batches).toMatchObject([{ attempts: 2, repaired: null }])
      yield* expectDelivered(10_000)
    }).pipe(Environment.fresh({ OUTBOX_LINGER: "10 millis" }))
  )

  it.effect("When an attempt is in doubt because no answer came in time, it is repeated and changes nothing", () =>
    Effect.gen(function* () {
      const proxy = yield* clickHouseProxy
      // ClickHouse still gets the end of the insert, but its answer stays on the way.
      yield* proxy.cutNext(({ bytes, request }) => {
        const ends = bytes.includes(END_OF_BODY) || END_OF_BODY.endsWith(bytes.toString("latin1"))
        if (isInsert(request) && ends) Effect.runSync(proxy.freeze(true))
        return undefined
      })
      yield* Relay.start({ CLICKHOUSE_URL: proxy.url, CLICKHOUSE_REQUEST_TIMEOUT: "1 second" })
      yield* publish(1_000)
      yield* until(
        batches,
        Arr.some(({ error_message }) => error_message === "no answer within 1s")
      )
      yield* proxy.cutNext(() => undefined)
      yield* proxy.freeze(false)
      yield* until(batches, Arr.every(isDelivered))
      yield* expectDelivered(1_000)
    }).pipe(Environment.fresh({ OUTBOX_LINGER: "10 millis" }))
  )

  it.effect(
    "When an attempt is in doubt, a materialized view whose table has a window of its own counts each event once too",
    () =>
      Effect.gen(function* () {
        const clickHouse = yield* ClickHouse
        yield* command(`
          CREATE MATERIALIZED VIEW per_type ENGINE = SummingMergeTree ORDER BY event_type
          SETTINGS non_replicated_deduplication_window = 10000
          AS SELECT event_type, count() AS events FROM event_log GROUP BY event_type
        `)
        yield* publishInMonths(3, 10)
        yield* inDoubt((insert) => insert)
        yield* expectDelivered(30)
        expect(yield* clickHouse.query("SELECT sum(events) FROM per_type")).toEqual([[30]])
      }).pipe(Environment.fresh())
  )

  it.effect(
    "When an attempt is in doubt, what ClickHouse has is recognised in a table of one's own, whose times are coarser",
    () =>
      Effect.gen(function* () {
        const clickHouse = yield* ClickHouse
        yield* clickHouse.command("DROP TABLE event_log")
        yield* clickHouse.command(`
          CREATE TABLE event_log (
            event_type String, event_date_time DateTime('UTC'), environment String, event_context JSON,
            metadata_version UInt64, event_id UUID, trace_id String
          )
          ENGINE = MergeTree ORDER BY event_type SETTINGS non_replicated_deduplication_window = 100
        `)
        yield* publish(100)
        yield* inDoubt((insert) => insert)
        yield* expectDelivered(100)
        expect(yield* batches).toMatchObject([{ repaired: null }])
      }).pipe(Environment.fresh())
  )

  it.effect("When an attempt is in doubt, a backfill of more than a hundred months is one batch like any other", () =>
    Effect.gen(function* () {
      yield* publishInMonths(150, 2)
      yield* Relay.drain
      yield* expectDelivered(300)
    }).pipe(Environment.fresh())
  )

  it.effect(
    "When an attempt is in doubt, a part that ClickHouse has lost since its yes is noticed, and sent again",
    () =>
      Effect.gen(function* () {
        yield* publishInMonths(3, 100)
        yield* inDoubt((insert) => Effect.zipRight(insert, loseMonth("202402")))
        expect(yield* counts).toEqual({ rows: 200, events: 200 })
        yield* expectDelivered(300)
        expect(yield* batches).toMatchObject([{ repaired: 100 }])
      }).pipe(Environment.fresh())
  )

  it.effect(
    "When an attempt is in doubt, a repair that was in doubt itself is repeated too, and only what is still missing is sent again",
    () =>
      Effect.gen(function* () {
        const store = yield* OutboxStore
        const sink = yield* ClickHouseSink
        yield* publishInMonths(3, 100)
        yield* inDoubt((insert) => Effect.zipRight(insert, loseMonth("202402")))
        yield* inDoubt((insert, lease) =>
          Effect.gen(function* () {
            yield* insert
            const missing = yield* Effect.flatMap(store.eventIds(lease.batch), (ids) => sink.missing(lease.batch, ids))
            const repair = yield* store.planRepair(
              lease,
              yield* Effect.filterOrDie(
                Effect.succeed(missing),
                Arr.isNonEmptyReadonlyArray,
                () => "nothing is missing"
              )
            )
            yield* sink.insert({
              token: repair.token,
              eventCount: repair.eventIds.length,
              rows: store.readRepair(lease.batch, repair)
            })
            yield* loseMonth("202403")
          })
        )
        expect(yield* counts).toEqual({ rows: 200, events: 200 })
        yield* expectDelivered(300)
      }).pipe(Environment.fresh())
  )

  it.effect(
    "When an attempt is in doubt, what ClickHouse has is recognised whatever its types are called, and however many they are",
    () =>
      Effect.gen(function* () {
        const types = [
          ...[
            "it's",
            'say "x"',
            "back\\slash",
            "tab\there",
            "new\nline",
            "[1,2]",
            "'",
            "\\'",
            "NULL",
            "é😀",
            "a,b",
            "{x:y}"
          ],
          ...Arr.makeBy(5_000, (n) => `${n} ${"of a great many types ".repeat(10)}`)
        ]
        yield* EventPublisher.publishAll(types.map((eventType) => Event.make({ eventType, eventContext: {} })))
        yield* inDoubt((insert) => insert)
        yield* expectDelivered(types.length)
        expect(yield* batches).toMatchObject([{ attempts: 2, repaired: null }])
      }).pipe(Environment.fresh())
  )

  it.effect(
    "When an attempt is in doubt, an insert that may still be running somewhere cannot add to the table afterwards",
    () =>
      Effect.gen(function* () {
        const store = yield* OutboxStore
        const sink = yield* ClickHouseSink
        yield* publish(1_000)
        yield* store.seal({ flush: true })
        const { batch } = Option.getOrThrow(yield* store.lease("a worker that was taken for dead"))
        const slowly = store.read(batch).pipe(
          Stream.rechunk(1),
          Stream.tap(() => Effect.sleep("200 millis"))
        )
        const zombie = yield* Effect.fork(sink.insert({ ...batch, rows: slowly }))
        yield* leasesRunOut
        yield* expectDelivered(1_000)
        yield* Fiber.join(zombie)
        yield* expectDelivered(1_000)
      }).pipe(Environment.fresh())
  )

  {
    const cuts: Record<string, (passing: Proxy.Passing) => number | undefined> = {
      "after its first bytes": ({ sent }) => (sent > 0 ? 0 : undefined),
      "in the middle of a row": ({ bytes, sent }) => (sent > 50_000 ? Math.floor(bytes.length / 2) : undefined),
      "behind the last row, before the end of the body": ({ bytes }) => {
        const end = bytes.indexOf(END_OF_BODY)
        return end < 0 ? undefined : end
      }
    }
    for (const compression of ["none", "gzip"]) {
      for (const [where, find] of Object.entries(cuts)) {
        it.effect(
          `When an insert breaks off, ${where}, with compression ${compression}, ClickHouse stores nothing of it`,
          () =>
            Effect.gen(function* () {
              const proxy = yield* clickHouseProxy
              const store = yield* OutboxStore
              yield* publish(10_000)
              yield* store.seal({ flush: true })
              const { batch } = Option.getOrThrow(yield* store.lease("by hand"))
              yield* proxy.cutNext((passing) => (isInsert(passing.request) ? find(passing) : undefined))
              const error = yield* Effect.flatMap(ClickHouseSink, (sink) =>
                Effect.flip(sink.insert({ ...batch, rows: store.read(batch) }))
              ).pipe(
                Effect.provide(Environment.another({ CLICKHOUSE_URL: proxy.url, CLICKHOUSE_COMPRESSION: compression }))
              )
              expect(yield* proxy.wasCut).toBe(true)
              expect(error).toMatchObject({ errorClass: "in-doubt", settled: false })
              yield* until(insertsRunning, (running) => running === 0)
              expect(yield* counts).toEqual({ rows: 0, events: 0 })
            }).pipe(Environment.fresh())
        )
      }
    }

    it.effect(
      "When an insert breaks off because Postgres ends the session in the middle, the batch is repeated at once",
      () =>
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const proxy = yield* clickHouseProxy
          yield* publish(10_000, "x".repeat(3_000))
          yield* Relay.start({ CLICKHOUSE_URL: proxy.url })
          // ClickHouse takes nothing for a while, so that the copy is still under way when it is ended.
          yield* proxy.cutNext(({ request, sent }) => {
            if (isInsert(request) && sent > 500_000) Effect.runSync(proxy.freeze(true))
            return undefined
          })
          yield* until(
            sql<{ ended: boolean }>`
            SELECT pg_terminate_backend(pid) AS ended FROM pg_stat_activity
            WHERE datname = current_database() AND query LIKE 'COPY%' AND wait_event = 'ClientWrite'
          `,
            ([session]) => session?.ended === true
          )
          yield* proxy.cutNext(() => undefined)
          yield* proxy.freeze(false)
          yield* arrived(10_000)
          yield* expectDelivered(10_000)
          expect(yield* batches).toMatchObject([{ attempts: 2 }])
        }).pipe(Environment.fresh({ OUTBOX_LINGER: "10 millis" }))
    )
  }

  {
    const contrary = {
      async_insert: "1",
      insert_deduplicate: "0",
      max_insert_block_size: "100",
      min_insert_block_size_rows: "100",
      min_insert_block_size_bytes: "1",
      deduplicate_blocks_in_dependent_materialized_views: "0",
      input_format_try_infer_dates: "1",
      input_format_try_infer_datetimes: "1",
      json_type_escape_dots_in_keys: "0",
      wait_end_of_query: "0"
    }
    const asThatUser = Effect.flatMap(Environment.Environment, ({ CLICKHOUSE_URL }) => {
      const url = new URL(CLICKHOUSE_URL ?? "")
      for (const [name, value] of Object.entries(contrary)) url.searchParams.set(`clickhouse_setting_${name}`, value)
      return Effect.succeed(Environment.another({ CLICKHOUSE_URL: url.href }))
    })

    it.effect(
      "Whatever the ClickHouse user's settings are, an insert is stored whole or not at all, and a repeat of it changes nothing",
      () =>
        Effect.gen(function* () {
          const eventContext = { "a.b": [true, 1], at: "2026-01-01", a: { c: "2026-01-01T00:00:00Z" } }
          const events = Arr.makeBy(1_000, () => Event.make({ eventType: "delivery_tested", eventContext }))
          const user = yield* asThatUser
          yield* EventPublisher.publishAll([...events, Event.make({ eventType: "refused", eventContext: { n: 1e30 } })])
          yield* Effect.provide(
            inDoubt((insert) => Effect.flip(insert), "1 hour"),
            user
          )
          expect(yield* counts).toEqual({ rows: 0, events: 0 })

          yield* EventPublisher.publishAll(events)
          yield* Effect.provide(
            inDoubt((insert) => Effect.replicateEffect(insert, 3), "1 hour"),
            user
          )
          expect(yield* counts).toEqual({ rows: 1_000, events: 1_000 })
          expect((yield* eventLog)[0]?.eventContext).toEqual(eventContext)
        }).pipe(Environment.fresh())
    )
  }

  {
    /** One batch in doubt, and so many inserts after it that the table's window has moved on. */
    const forgotten = <E, R>(
      options: { readonly window: number; readonly months: number },
      attempt: Attempt<E, R>,
      meanwhile: Effect.Effect<void, SqlError, SqlClient.SqlClient> = Effect.void
    ) =>
      Effect.gen(function* () {
        yield* command(`ALTER TABLE event_log MODIFY SETTING non_replicated_deduplication_window = ${options.window}`)
        yield* publishInMonths(options.months, 10)
        yield* inDoubt(attempt, "1 hour")
        const relay = yield* Relay.start()
        for (let n = 0; n < 5; n++) {
          yield* publishInMonths(options.months, 10)
          const store = yield* OutboxStore
          yield* Effect.repeat(store.seal({ flush: true }), { while: ({ _tag }) => _tag === "Busy" })
        }
        yield* until(batches, (all) => all.length === 6 && all.slice(1).every(isDelivered))
        yield* Fiber.interrupt(relay)
        yield* leasesRunOut
        yield* Effect.all([Relay.drain, meanwhile], { concurrency: 2 })
        return yield* batches
      })

    it.effect(
      "When ClickHouse may have forgotten a batch's token, it is asked first, and nothing that it has is sent again",
      () =>
        Effect.gen(function* () {
          const [first] = yield* forgotten({ window: 3, months: 1 }, (insert) => insert)
          expect(first).toMatchObject({ repaired: null })
          yield* expectDelivered(60)
        }).pipe(Environment.fresh())
    )

    it.effect("When ClickHouse may have forgotten a batch's token, only what it lacks is sent", () =>
      Effect.gen(function* () {
        const [first] = yield* forgotten({ window: 9, months: 3 }, (insert) =>
          Effect.zipRight(insert, loseMonth("202402"))
        )
        expect(first).toMatchObject({ repaired: 10 })
        yield* expectDelivered(180)
      }).pipe(Environment.fresh())
    )

    it.effect("When ClickHouse may have forgotten a batch's token, an insert of it that still runs is waited for", () =>
      Effect.gen(function* () {
        const sink = yield* ClickHouseSink
        const zombie = yield* Deferred.make<Fiber.Fiber<unknown, unknown>>()
        const mayEnd = yield* Deferred.make<void>()
        const meanwhile = Effect.gen(function* () {
          yield* until(batches, ([first]) => first?.attempts === 2)
          yield* Effect.sleep("500 millis")
          expect((yield* batches)[0]).toMatchObject({ state: "leased" })
          yield* Deferred.succeed(mayEnd, undefined)
        })
        const attempt: Attempt<never, never> = (_, { batch: { eventCount, token } }, rows) => {
          const slowly = Stream.concat(rows, Stream.execute(Deferred.await(mayEnd)))
          return Effect.flatMap(Effect.fork(sink.insert({ token, eventCount, rows: slowly })), (fiber) =>
            Deferred.succeed(zombie, fiber)
          )
        }
        yield* forgotten({ window: 3, months: 1 }, attempt, meanwhile)
        yield* Effect.flatMap(Deferred.await(zombie), Fiber.join)
        yield* expectDelivered(60)
      }).pipe(Environment.fresh())
    )

    it.effect(
      "When ClickHouse may have forgotten a batch's token, also early, because a batch of many months fills the window with as many tokens",
      () =>
        Effect.gen(function* () {
          yield* forgotten({ window: 20, months: 6 }, (insert) => insert)
          yield* expectDelivered(360)
        }).pipe(Environment.fresh())
    )

    it.effect(
      "When ClickHouse may have forgotten a batch's token, also when other outboxes have filled the window, whose inserts nobody here counts",
      () =>
        Effect.gen(function* () {
          const { CLICKHOUSE_DATABASE = "" } = yield* Environment.Environment
          yield* command("ALTER TABLE event_log MODIFY SETTING non_replicated_deduplication_window = 10")
          yield* publish(10)
          yield* inDoubt((insert) => insert, "1 hour")
          yield* Effect.repeatN(Effect.zipRight(publish(10), Relay.drain), 11).pipe(
            Effect.provide(Environment.layer({ CLICKHOUSE_DATABASE }))
          )
          yield* leasesRunOut
          yield* expectDelivered(130)
          expect(yield* batches).toMatchObject([{ attempts: 2, repaired: null }])
        }).pipe(Environment.fresh())
    )

    it.effect(
      "When ClickHouse may have forgotten a batch's token, a batch of which nothing ever arrived is sent as it was, under its own token",
      () =>
        Effect.gen(function* () {
          const [first] = yield* forgotten({ window: 3, months: 1 }, () => Effect.void)
          expect(first).toMatchObject({ repaired: null })
          yield* expectDelivered(60)
        }).pipe(Environment.fresh())
    )
  }
})

/** As if each lease had been taken so long ago. */
const leasesRunOut = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql`UPDATE outbox.batch SET available_at = '-infinity' WHERE state = 'pending'`
)

const command = (statement: string) => Effect.flatMap(ClickHouse, (clickHouse) => clickHouse.command(statement))

/** Unlike a dropped partition, whose tokens are dropped with it. */
const loseMonth = (month: string) =>
  command(`ALTER TABLE event_log DELETE WHERE toYYYYMM(event_date_time) = ${month} SETTINGS mutations_sync = 2`)

const postgresProxy = Effect.flatMap(Environment.Environment, ({ DATABASE_URL }) => Proxy.make(DATABASE_URL ?? ""))

const clickHouseProxy = Effect.flatMap(Environment.Environment, ({ CLICKHOUSE_URL }) =>
  Proxy.make(CLICKHOUSE_URL ?? "")
)

const insertsRunning = Effect.flatMap(ClickHouse, (clickHouse) =>
  clickHouse.query(
    "SELECT count() FROM system.processes WHERE query_kind = 'Insert' AND current_database = currentDatabase()"
  )
).pipe(Effect.map(([row]) => Number(row?.[0])))

/** Of a request that is sent in chunks. */
const END_OF_BODY = "0\r\n\r\n"

const isInsert = (request: string) => request.includes("INSERT")

/** Events of one transaction whose times lie in so many months: ClickHouse stores a part for each. */
const publishInMonths = (months: number, perMonth: number) =>
  EventPublisher.publishAll(
    Arr.makeBy(months * perMonth, (n) =>
      Event.make({
        eventType: "delivery_tested",
        eventContext: { n },
        eventDateTime: new Date(Date.UTC(2024, n % months, 15))
      })
    )
  )

type Attempt<E, R> = (
  insert: Effect.Effect<void, SinkError | SqlError | BatchChanged>,
  lease: Lease,
  rows: Stream.Stream<Uint8Array, SqlError | BatchChanged>
) => Effect.Effect<unknown, E, R>

/** Seals and leases a batch, makes an attempt by hand, and leaves it in doubt. */
const inDoubt = <E, R>(attempt: Attempt<E, R>, retryAfter: Duration.DurationInput = 0) =>
  Effect.gen(function* () {
    const store = yield* OutboxStore
    const sink = yield* ClickHouseSink
    yield* store.seal({ flush: true })
    const lease = Option.getOrThrow(yield* store.lease("by hand"))
    const rows = store.read(lease.batch)
    yield* attempt(Effect.asVoid(sink.insert({ ...lease.batch, rows })), lease, rows)
    const error = new SinkError({ errorClass: "in-doubt", reason: "no answer", settled: false })
    yield* store.release(lease, { error, retryAfter: Duration.decode(retryAfter), incidentAfter: Duration.hours(1) })
  })

/** Whether the process has taken a batch. */
const works = ({ pid }: Relay.RelayProcess) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) => sql`SELECT FROM outbox.batch WHERE lease_owner LIKE ${`%/${pid}/%`} LIMIT 1`
  ).pipe(Effect.map((rows) => rows.length > 0))
