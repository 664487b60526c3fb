/** Isolation: of a batch that ClickHouse refuses exactly the bad events become failures, and all others arrive once. */
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Stream from "effect/Stream"
import type { Lease } from "../../src/Batch.ts"
import { ClickHouse } from "../../src/ClickHouse.ts"
import { ClickHouseSink } from "../../src/ClickHouseSink.ts"
import * as Config from "../../src/Config.ts"
import * as Event from "../../src/Event.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import { OutboxStore } from "../../src/OutboxStore.ts"
import { deliverNext } from "../../src/Relay/deliver.ts"
import { SinkError } from "../../src/SinkError.ts"
import * as Environment from "../support/environment.ts"
import { counts } from "../support/eventLog.ts"
import { batches, isDelivered } from "../support/manifest.ts"
import * as Proxy from "../support/proxy.ts"
import * as Relay from "../support/relay.ts"
import { until } from "../support/wait.ts"
import { isWhole } from "../support/whole.ts"

/** A number that ClickHouse's JSON does not hold. */
const REFUSED = { refused: "1e30" }

/** Events of one transaction, numbered through but for those at the positions that are bad. */
const publish = (total: number, bad: ReadonlyArray<number> = [], context: Record<string, string> = REFUSED) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) => sql`
      SELECT count(*)
      FROM outbox.publish_all(
        array_fill('isolation_tested'::text, ARRAY[${total}::integer]),
        ARRAY(
          SELECT
            CASE
              WHEN n = ANY (${bad}::integer[]) THEN replace(${JSON.stringify(context)}, '"1e30"', '1e30')::jsonb
              ELSE jsonb_build_object('n', n)
            END
          FROM generate_series(1, ${total}::integer) AS n
        )
      )
    `
  )

const positions = (count: number, total: number) =>
  Effect.map(Random.shuffle(Arr.range(1, total)), (all) => Arr.take(all, count))

const command = (statement: string) => Effect.flatMap(ClickHouse, (clickHouse) => clickHouse.command(statement))

const failures = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql<{
    id: number
    parked: boolean
    event_count: number
    error_code: number
    attempts: number
    /** How many events it holds, and how many of them are bad. */
    events: number
    bad: number
  }>`
    SELECT
      failure.id::integer, parked, event_count, error_code, attempts,
      count(*)::integer AS events,
      (count(*) FILTER (WHERE event_context::jsonb ? 'refused'))::integer AS bad
    FROM outbox.batch_failure AS failure
    JOIN outbox.batch_failure_event AS event ON event.failure_id = failure.id
    GROUP BY failure.id
    ORDER BY failure.id
  `
)

/** Waits until relays that run have dealt with everything. */
const settled = () =>
  Effect.flatMap(OutboxStore, (store) =>
    until(Effect.delay(store.status, "100 millis"), ({ backlog }) => backlog === 0)
  )

/** The bad events are failures, each alone; every other event is in ClickHouse, once. */
const expectIsolated = (total: number, bad: number) =>
  Effect.gen(function* () {
    expect(yield* counts).toEqual({ rows: total - bad, events: total - bad })
    const found = yield* failures
    expect(found).toHaveLength(bad)
    expect(found.every((failure) => failure.bad === 1 && failure.events === 1 && !failure.parked)).toBe(true)
    yield* expectCutWhole
  })

/** What a batch was split into is all of it. */
const expectCutWhole = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const wrong = yield* sql`
    SELECT parent.id
    FROM outbox.batch AS parent
    JOIN outbox.batch AS child ON child.parent_id = parent.id
    GROUP BY parent.id
    HAVING parent.state <> 'split'
      OR sum(child.event_count) <> parent.event_count
      OR sum(child.byte_count) <> parent.byte_count
      OR min(child.byte_count) <= 0
  `
  expect(wrong).toEqual([])
  const [tokens] = yield* sql`SELECT count(DISTINCT token) = count(*) AS "areUnique" FROM outbox.batch`
  expect(tokens).toEqual({ areUnique: true })
})

layer(Environment.layer(), { excludeTestServices: true })((it) => {
  {
    const total = 50_000
    for (const bad of isWhole ? [1, 10, 100] : [10]) {
      it.effect(`Isolation of bad events in a large batch (${bad} of ${total}) leaves exactly those out`, () =>
        Effect.gen(function* () {
          yield* publish(total, yield* positions(bad, total))
          yield* Relay.start()
          yield* settled()
          yield* expectIsolated(total, bad)
          const requests = Arr.reduce(yield* batches, 0, (sum, { attempts }) => sum + attempts)
          expect(requests).toBeLessThanOrEqual(10 + 6 * bad)
        }).pipe(Environment.fresh())
      )
    }
  }

  it.effect(
    "Isolation of a bad event finds it wherever it is in its batch, and where batches have several transactions",
    () =>
      Effect.gen(function* () {
        yield* publish(1, [1])
        yield* publish(5, [1])
        yield* publish(5, [5])
        yield* publish(5, [3])
        yield* publish(3, [1, 2, 3])
        yield* Relay.drain
        yield* expectIsolated(19, 7)
      }).pipe(Environment.fresh())
  )

  it.effect(
    "Isolation of a bad event copies every column of it, and says how often, since when and why it was refused",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* publish(3)
        yield* sql`
          INSERT INTO outbox.event (
            event_type, event_date_time, environment, event_context, context_bytes, metadata_version, traceparent
          )
          SELECT
            E'a\ttab, é and 😀', '1999-12-31 23:59:59.123456+00', 'the "moon"', context, octet_length(context::text), 7,
            '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
          FROM (SELECT '{"refused": 1e30, "text": "\\\\\\n"}'::jsonb AS context) AS given
        `
        yield* publish(3)
        yield* Relay.drain
        expect(
          yield* sql`
            SELECT to_jsonb(copy) - '{failure_id,corrected_at,replayed_at}'::text[] = to_jsonb(event) AS "isExact"
            FROM outbox.batch_failure_event AS copy JOIN outbox.event USING (event_id)
          `
        ).toEqual([{ isExact: true }])
        const [failure] = yield* sql`
          SELECT
            failure.*,
            batch.parent_id = failure.origin_batch_id AS "isChild",
            (SELECT first_error_at FROM outbox.batch WHERE id = failure.origin_batch_id) = first_seen_at AS "isFirst"
          FROM outbox.batch_failure AS failure JOIN outbox.batch ON batch.id = failure.batch_id
        `
        expect(failure).toMatchObject({
          event_count: 1,
          parked: false,
          error_class: "data",
          error_code: 117,
          error_message: expect.stringMatching(/^Code: 117\. DB::Exception: .*\(at row 1\)$/),
          // In the batch that was sealed, and alone.
          attempts: 2,
          previous_failure_id: null,
          state: "open",
          isChild: true,
          isFirst: true
        })
        expect(yield* sql`SELECT status, count(*)::integer FROM outbox.event_status GROUP BY 1 ORDER BY 1`).toEqual([
          { status: "COMPLETED", count: 6 },
          { status: "FAILED", count: 1 }
        ])
        const { status } = yield* OutboxStore
        expect(yield* status).toMatchObject({
          backlog: 0,
          batches: { delivered: 2, failed: 1, blocked: 0, sealed: 0 },
          openFailures: { failures: 1, events: 1 },
          lastError: null
        })
      }).pipe(Environment.fresh())
  )

  it.effect("Isolation of a bad event says in the log where it is and not what is in it", () =>
    Effect.gen(function* () {
      const said: Array<string> = []
      const logger = Logger.map(Logger.logfmtLogger, (line) => void said.push(line))
      yield* publish(3, [2])
      yield* Effect.provide(Relay.drain, Logger.replace(Logger.defaultLogger, logger))
      expect(said.some((line) => line.includes("failures show 1") && line.includes("error.code=117"))).toBe(true)
      expect(said.some((line) => line.includes("1 failure is open, with 1 event"))).toBe(true)
      expect(said.filter((line) => /refused|0{20}/.test(line))).toEqual([])
    }).pipe(Logger.withMinimumLogLevel(LogLevel.All), Environment.fresh())
  )

  it.effect("Isolation of a bad event makes no worker wait: it says nothing about the next batch", () =>
    Effect.gen(function* () {
      yield* publish(20, [3, 9, 15])
      // Which is over long before anything would be tried again.
      yield* Relay.drain
      yield* expectIsolated(20, 3)
    }).pipe(Environment.fresh({ OUTBOX_RETRY_BASE: "1 hour", OUTBOX_RETRY_CAP: "1 hour" }))
  )

  it.effect("Isolation of a bad event that was replayed and is refused again leads to the failure it came from", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* publish(2, [1, 2])
      yield* Relay.drain
      yield* sql`
          UPDATE outbox.batch_failure_event SET replayed_at = clock_timestamp()
          WHERE failure_id = (SELECT max(id) FROM outbox.batch_failure)
        `
      yield* sql`
          SELECT outbox.publish('isolation_tested', '{"refused": 1e30}', event_id => event_id)
          FROM outbox.batch_failure_event
        `
      yield* Relay.drain
      const links = yield* sql<{ id: number; previous: number | null }>`
          SELECT id::integer, previous_failure_id::integer AS previous FROM outbox.batch_failure ORDER BY id
        `
      expect(links.map(({ previous }) => previous).sort()).toEqual([2, null, null, null])
      const { status } = yield* OutboxStore
      expect((yield* status).openFailures).toEqual({ failures: 4, events: 3 })
    }).pipe(Environment.fresh())
  )

  it.effect(
    "Isolation of more bad events than the limit parks what is refused beyond it, in few requests, and delivers the rest",
    () =>
      Effect.gen(function* () {
        yield* publish(5_000, Arr.range(1_001, 4_000))
        yield* Relay.drain
        const all = yield* failures
        const [alone, parked] = Arr.partition(all, (failure) => failure.parked)
        expect(alone.length).toBeGreaterThanOrEqual(10)
        expect(alone.length).toBeLessThanOrEqual(12)
        expect(alone.every(({ bad, events }) => bad === 1 && events === 1)).toBe(true)
        const refused = Arr.reduce(all, 0, (sum, { events }) => sum + events)
        expect(Arr.reduce(all, 0, (sum, { bad }) => sum + bad)).toBe(3_000)
        expect(yield* counts).toEqual({ rows: 5_000 - refused, events: 5_000 - refused })
        expect(Arr.reduce(parked, 0, (sum, { event_count }) => sum + event_count)).toBe(refused - alone.length)
        expect(Arr.reduce(yield* batches, 0, (sum, { attempts }) => sum + attempts)).toBeLessThanOrEqual(50)
        yield* expectCutWhole
      }).pipe(Environment.fresh({ OUTBOX_REFUSED_EVENTS_LIMIT: "10" }))
  )

  it.effect(
    "Isolation of more bad events than the limit parks none of another type: one publisher's bad events hold up nobody else's good ones",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        // 300 bad ones among 6,000 good ones, in one batch.
        yield* sql`
          SELECT count(*)
          FROM outbox.publish_all(
            ARRAY(SELECT CASE WHEN n % 21 = 0 THEN 'bad' ELSE 'good_' || n % 3 END FROM generate_series(1, 6300) AS n),
            ARRAY(
              SELECT CASE WHEN n % 21 = 0 THEN '{"refused": 1e30}'::jsonb ELSE jsonb_build_object('n', n) END
              FROM generate_series(1, 6300) AS n
            )
          )
        `
        yield* Relay.drain
        expect(yield* counts).toEqual({ rows: 6_000, events: 6_000 })
        const all = yield* failures
        expect(Arr.reduce(all, 0, (sum, { events }) => sum + events)).toBe(300)
        expect(Arr.reduce(all, 0, (sum, { bad }) => sum + bad)).toBe(300)
        yield* expectCutWhole
        const shown = yield* sql`
          SELECT status, count(*)::integer AS events, count(DISTINCT event_id)::integer AS ids
          FROM outbox.event_status GROUP BY status ORDER BY status
        `
        expect(shown).toEqual([
          { status: "COMPLETED", events: 6_000, ids: 6_000 },
          { status: "FAILED", events: 300, ids: 300 }
        ])
      }).pipe(Environment.fresh())
  )

  it.effect(
    "Isolation of more bad events than the limit parks none of another type where bad ones are of several types, and where no row is named",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* requireNumber
        yield* sql`
          SELECT count(*)
          FROM outbox.publish_all(
            ARRAY(SELECT CASE WHEN n % 4 = 0 THEN 'bad_' || n / 4 % 2 ELSE 'good' END FROM generate_series(1, 1000) AS n),
            ARRAY(
              SELECT CASE WHEN n % 4 = 0 THEN '{"refused": "x"}'::jsonb ELSE jsonb_build_object('n', n) END
              FROM generate_series(1, 1000) AS n
            )
          )
        `
        yield* Relay.drain
        expect(yield* counts).toEqual({ rows: 750, events: 750 })
        expect(Arr.reduce(yield* failures, 0, (sum, { bad }) => sum + bad)).toBe(250)
        yield* expectCutWhole
      }).pipe(Environment.fresh({ OUTBOX_REFUSED_EVENTS_LIMIT: "10" }))
  )

  it.effect(
    "Isolation of more bad events than the limit comes to an end where each bad event has a type of its own",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql`
          SELECT count(*)
          FROM outbox.publish_all(
            ARRAY(SELECT 'bad_' || n FROM generate_series(1, 2000) AS n),
            ARRAY(SELECT '{"refused": 1e30}'::jsonb FROM generate_series(1, 2000) AS n)
          )
        `
        yield* Relay.drain
        const all = yield* failures
        expect(Arr.reduce(all, 0, (sum, { bad }) => sum + bad)).toBe(2_000)
        // Twenty for each of the limit, and what several workers had in hand then.
        expect((yield* batches).length).toBeLessThanOrEqual(5 * 20 + 20)
      }).pipe(Environment.fresh({ OUTBOX_REFUSED_EVENTS_LIMIT: "5" }))
  )

  it.effect("Isolation of more bad events than the limit does so too where ClickHouse names no row", () =>
    Effect.gen(function* () {
      yield* requireNumber
      yield* publish(5_000, Arr.range(1, 5_000), NO_NUMBER)
      yield* Relay.drain
      const all = yield* failures
      expect(Arr.reduce(all, 0, (sum, { events }) => sum + events)).toBe(5_000)
      // Ten alone, and one half of each of the thirteen splits that lead there; two workers may be ahead of each other.
      expect(all.length).toBeLessThanOrEqual(25)
      expect(Arr.reduce(yield* batches, 0, (sum, { attempts }) => sum + attempts)).toBeLessThanOrEqual(50)
    }).pipe(Environment.fresh({ OUTBOX_REFUSED_EVENTS_LIMIT: "10" }))
  )

  const NO_NUMBER = { refused: "for want of a number" }

  /** Refuses them with a text that names no row. */
  const requireNumber = command(
    "ALTER TABLE event_log ADD COLUMN n UInt64 MATERIALIZED toUInt64(ifNull(event_context.n::Nullable(String), 'none'))"
  )

  it.effect("Isolation without a row that is named halves the batch until the bad events are alone", () =>
    Effect.gen(function* () {
      yield* requireNumber
      yield* publish(1_000, [1, 400, 401, 1_000], NO_NUMBER)
      yield* Relay.drain
      yield* expectIsolated(1_000, 4)
      const all = yield* batches
      expect(all[0]?.error_message).toContain("Cannot parse string 'none' as UInt64")
      expect(all.some(({ suspect }) => suspect)).toBe(false)
    }).pipe(Environment.fresh())
  )

  it.effect("Isolation without a row that is right halves it too, once an event that was named is accepted", () =>
    Effect.gen(function* () {
      const sink = yield* ClickHouseSink
      const lying: typeof sink.insert = (insertion) =>
        Effect.mapError(sink.insert(insertion), (error) =>
          error instanceof SinkError && error.row !== undefined ? new SinkError({ ...error, row: 1 }) : error
        )
      yield* publish(200, [50, 51, 180])
      yield* Effect.provideService(Relay.drain, ClickHouseSink, { ...sink, insert: lying })
      yield* expectIsolated(200, 3)
      expect((yield* batches).filter((batch) => batch.suspect && isDelivered(batch)).length).toBeLessThanOrEqual(3)
    }).pipe(Environment.fresh())
  )

  it.effect("Isolation without a row within the batch that is named halves it", () =>
    Effect.gen(function* () {
      const sink = yield* ClickHouseSink
      const lying: typeof sink.insert = (insertion) =>
        Effect.mapError(sink.insert(insertion), (error) =>
          error instanceof SinkError ? new SinkError({ ...error, row: 4_711 }) : error
        )
      yield* publish(20, [7])
      yield* Effect.provideService(Relay.drain, ClickHouseSink, { ...sink, insert: lying })
      yield* expectIsolated(20, 1)
    }).pipe(Environment.fresh())
  )

  it.effect("Isolation by a constraint of the table's finds the event by the row that it names", () =>
    Effect.gen(function* () {
      yield* command("ALTER TABLE event_log ADD CONSTRAINT limited CHECK event_context.n::UInt64 != 77")
      yield* publish(100)
      yield* Relay.drain
      expect(yield* counts).toEqual({ rows: 99, events: 99 })
      expect(yield* failures).toMatchObject([{ error_code: 469, event_count: 1 }])
      expect(yield* batches).toHaveLength(4)
    }).pipe(Environment.fresh())
  )

  /** Every event is in ClickHouse once or a failure of its own, and that is what is said of it. */
  const expectEach = (expected: { readonly arrived: number; readonly refused: number }) =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { arrived, refused } = expected
      expect(yield* counts).toEqual({ rows: arrived, events: arrived })
      const found = yield* failures
      expect(found).toHaveLength(refused)
      expect(found.every(({ events, parked }) => events === 1 && !parked)).toBe(true)
      const states = yield* sql`SELECT status, count(*)::integer FROM outbox.event_status GROUP BY 1 ORDER BY 1`
      expect(states).toEqual([
        { status: "COMPLETED", count: arrived },
        { status: "FAILED", count: refused }
      ])
    })

  it.effect(
    "Isolation by an index, for which parts of other months are already in the table leaves the bad one out, and every other arrives once",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* command("ALTER TABLE event_log ADD INDEX strict toUInt64(environment) TYPE minmax")
        yield* EventPublisher.publishAll(
          Arr.makeBy(6, (month) =>
            Event.make({
              eventType: "isolation_tested",
              eventContext: { month },
              eventDateTime: new Date(Date.UTC(2026, month, 1)),
              environment: month === 5 ? "none" : "7"
            })
          )
        )
        yield* Relay.drain
        yield* expectEach({ arrived: 5, refused: 1 })
        const [sealed] = yield* batches
        expect(sealed).toMatchObject({ state: "delivered", event_count: 6, error_class: null })
        const columns = `
          event_type, event_date_time, environment, event_context::jsonb, metadata_version, traceparent, published_at`
        const differing = yield* sql`
          SELECT event_id FROM outbox.event GROUP BY event_id HAVING count(DISTINCT (${sql.literal(columns)})) > 1
        `
        expect(differing).toEqual([])
      }).pipe(Environment.fresh())
  )

  it.effect(
    "Isolation by an index, for which parts of other months are already in the table leaves the bad ones out too if a relay is killed again and again meanwhile",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const store = yield* OutboxStore
        yield* command("ALTER TABLE event_log ADD INDEX strict toUInt64(environment) TYPE minmax")
        yield* EventPublisher.publishAll(
          Arr.makeBy(60, (n) =>
            Event.make({
              eventType: "isolation_tested",
              eventContext: { n },
              eventDateTime: new Date(Date.UTC(2026, n % 12, 1)),
              environment: n % 20 === 5 ? "none" : "7"
            })
          )
        )
        // Each is given up somewhere: what it had in hand is in doubt.
        for (let n = 0; n < 10; n++) {
          yield* store.seal({ flush: true })
          yield* Effect.timeoutOption(Relay.drain, `${20 * n} millis`)
          yield* sql`UPDATE outbox.batch SET available_at = '-infinity' WHERE state = 'pending'`
        }
        yield* Relay.drain
        yield* expectEach({ arrived: 57, refused: 3 })
      }).pipe(Environment.fresh())
  )

  {
    /** Leaves a batch as a relay does that was killed while it sent. */
    const inDoubt = <E, R>(attempt: (lease: Lease) => Effect.Effect<unknown, E, R>) =>
      Effect.gen(function* () {
        const store = yield* OutboxStore
        yield* store.seal({ flush: true })
        const lease = Option.getOrThrow(yield* store.lease("a relay that dies"))
        yield* attempt(lease)
        yield* store.abandon(lease)
      })

    const insert = ({ batch }: Lease) =>
      Effect.gen(function* () {
        const store = yield* OutboxStore
        const sink = yield* ClickHouseSink
        yield* sink.insert({ ...batch, rows: store.read(batch) })
      })

    const becomeStrict = command("ALTER TABLE event_log ADD CONSTRAINT strict CHECK event_context.n::UInt64 < 15")

    const publishInMonths = EventPublisher.publishAll(
      Arr.makeBy(20, (n) =>
        Event.make({
          eventType: "isolation_tested",
          eventContext: { n },
          eventDateTime: new Date(Date.UTC(2026, n % 2, 1))
        })
      )
    )

    it.effect("Isolation of a batch in doubt of which nothing was written takes place as if it were not", () =>
      Effect.gen(function* () {
        yield* publish(100, [50])
        yield* inDoubt(() => Effect.void)
        yield* Relay.drain
        yield* expectIsolated(100, 1)
        expect((yield* batches)[0]).toMatchObject({ state: "split", attempts: 2 })
      }).pipe(Environment.fresh())
    )

    it.effect(
      "Isolation of a batch in doubt because the answer that refused it was lost takes place when it is refused again",
      () =>
        Effect.gen(function* () {
          const { CLICKHOUSE_URL = "" } = yield* Environment.Environment
          const proxy = yield* Proxy.make(CLICKHOUSE_URL)
          yield* proxy.cutNext(({ from, request }) => (from === "server" && request.includes("INSERT") ? 0 : undefined))
          yield* publish(100, [20, 80])
          yield* Relay.start({ CLICKHOUSE_URL: proxy.url })
          yield* settled()
          expect(yield* proxy.wasCut).toBe(true)
          yield* expectIsolated(100, 2)
          expect((yield* batches)[0]).toMatchObject({ state: "split", attempts: 2 })
        }).pipe(Environment.fresh(soon))
    )

    it.effect(
      "Isolation of a batch in doubt of which everything was written, before the table became stricter, does not: it is delivered",
      () =>
        Effect.gen(function* () {
          yield* publish(20)
          yield* inDoubt(insert)
          yield* becomeStrict
          yield* Relay.drain
          yield* expectIsolated(20, 0)
          expect(yield* batches).toMatchObject([{ state: "delivered", attempts: 2 }])
        }).pipe(Environment.fresh())
    )

    it.effect("Isolation of a batch in doubt of which a part was written takes place with the rest", () =>
      Effect.gen(function* () {
        yield* publishInMonths
        yield* inDoubt((lease) =>
          Effect.zipRight(
            insert(lease),
            command("ALTER TABLE event_log DELETE WHERE toYYYYMM(event_date_time) = 202602 SETTINGS mutations_sync = 2")
          )
        )
        yield* becomeStrict
        yield* Relay.drain
        // Of the ten in February those that are 15, 17 and 19.
        yield* expectEach({ arrived: 17, refused: 3 })
        expect((yield* batches)[0]).toMatchObject({ state: "delivered", attempts: 2 })
      }).pipe(Environment.fresh())
    )

    it.effect(
      "Isolation of a batch in doubt of which a part was written changes nothing if the batch was lost, or is not whole any more",
      () =>
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const store = yield* OutboxStore
          yield* publish(4)
          yield* store.seal({ flush: true })
          const lost = Option.getOrThrow(yield* store.lease("a relay that is too slow"))
          yield* store.abandon(lost)
          const lease = Option.getOrThrow(yield* store.lease("another"))
          const [missing, ...others] = yield* store.eventIds(lease.batch)
          if (missing === undefined) return expect.unreachable()
          expect(yield* Effect.flip(store.republish(lost, [missing]))).toMatchObject({ _tag: "LeaseLost" })
          yield* sql`DELETE FROM outbox.event WHERE event_id = ${missing}`
          const before = yield* batches
          expect(yield* Effect.flip(store.republish(lease, [missing, ...others.slice(1)]))).toMatchObject({
            _tag: "BatchChanged",
            expected: 4,
            actual: 3
          })
          expect(yield* batches).toEqual(before)
          expect(yield* sql`SELECT FROM outbox.event`).toHaveLength(3)
        }).pipe(Environment.fresh())
    )

    it.effect("Isolation of a batch in doubt waits for an insert that still runs, and would be stored", () =>
      Effect.gen(function* () {
        const store = yield* OutboxStore
        const sink = yield* ClickHouseSink
        yield* publish(200)
        yield* store.seal({ flush: true })
        const lease = Option.getOrThrow(yield* store.lease("a relay that is taken for dead"))
        const slowly = Stream.concat(store.read(lease.batch), Stream.execute(Effect.sleep("1500 millis")))
        const zombie = yield* Effect.fork(sink.insert({ ...lease.batch, rows: slowly }))
        yield* until(sink.isInserting(lease.batch.token), (running) => running)
        yield* store.abandon(lease)
        // As a table that has become stricter meanwhile would, but without waiting for the insert that runs.
        const refuses: typeof sink.insert = ({ rows }) =>
          Effect.zipRight(
            Stream.runDrain(rows),
            Effect.fail(new SinkError({ errorClass: "data", code: 469, reason: "stricter", settled: true, row: 7 }))
          )
        yield* Effect.provideService(Relay.drain, ClickHouseSink, { ...sink, insert: refuses })
        yield* Fiber.join(zombie)
        yield* expectIsolated(200, 0)
        expect(yield* batches).toMatchObject([{ state: "delivered", attempts: 2 }])
      }).pipe(Environment.fresh())
    )
  }

  it.effect("Isolation by several relays at once is the same", () =>
    Effect.gen(function* () {
      yield* publish(3_000, yield* positions(40, 3_000))
      yield* Relay.start()
      yield* Relay.start()
      yield* Relay.start()
      yield* settled()
      yield* expectIsolated(3_000, 40)
    }).pipe(Environment.fresh({ OUTBOX_LINGER: "10 millis", OUTBOX_BATCH_EVENTS: "700" }))
  )

  it.effect("Isolation by several relays that are killed again and again in the middle of it is the same", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* publish(2_000, yield* positions(40, 2_000))
      for (let n = 0; n < 3; n++) {
        yield* Effect.scoped(
          Effect.gen(function* () {
            const relay = yield* Relay.startProcess()
            yield* until(
              sql`SELECT FROM outbox.batch WHERE lease_owner LIKE ${`%/${relay.pid}/%`} LIMIT 1`,
              (taken) => taken.length > 0
            )
            yield* Effect.flatMap(Random.nextIntBetween(0, 400), Effect.sleep)
          })
        )
      }
      yield* Relay.start()
      yield* settled()
      yield* expectIsolated(2_000, 40)
    }).pipe(Environment.fresh({ OUTBOX_LINGER: "10 millis", OUTBOX_LEASE: "500 millis", OUTBOX_BATCH_EVENTS: "1000" }))
  )

  for (const events of [3, 5_000]) {
    it.effect(
      `Isolation by several relays of which one loses a batch of ${events} to another while it sends it stores nothing of it`,
      () =>
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const store = yield* OutboxStore
          yield* publish(events)
          yield* store.seal({ flush: true })
          const takenAway = sql`UPDATE outbox.batch SET lease_id = gen_random_uuid(), available_at = clock_timestamp()`
          const read: typeof store.read = (batch) => Stream.concat(store.read(batch), Stream.execute(takenAway))
          const config = { ...(yield* Config.relay), ...(yield* Config.outbox) }
          const attempt = deliverNext({
            ...config,
            owner: "a relay that was paused",
            alive: Effect.void,
            progressed: Effect.void,
            wake: Effect.void
          })
          expect(yield* Effect.provideService(attempt, OutboxStore, { ...store, read })).toBe(true)
          expect(yield* batches).toMatchObject([{ state: "sealed", attempts: 1 }])
          yield* Effect.sleep("300 millis")
          expect(yield* counts).toEqual({ rows: 0, events: 0 })
          yield* Relay.drain
          yield* expectIsolated(events, 0)
        }).pipe(Environment.fresh())
    )
  }

  it.effect(
    "Isolation by several relays of which one was frozen until its batch had left the manifest says that the lease is lost",
    () =>
      Effect.gen(function* () {
        const store = yield* OutboxStore
        yield* publish(10)
        yield* store.seal({ flush: true })
        const frozen = Option.getOrThrow(yield* store.lease("a relay that is frozen"))
        yield* store.abandon(frozen)
        yield* Relay.drain
        const sql = yield* SqlClient.SqlClient
        yield* sql`DELETE FROM outbox.batch`
        expect(yield* Effect.flip(store.sinceFirstAttempt(frozen))).toMatchObject({ _tag: "LeaseLost" })
      }).pipe(Environment.fresh())
  )

  it.effect("Isolation by several relays of which one has lost the batch to another changes nothing", () =>
    Effect.gen(function* () {
      const store = yield* OutboxStore
      yield* publish(10, [5])
      yield* store.seal({ flush: true })
      const lost = Option.getOrThrow(yield* store.lease("a relay that is too slow"))
      yield* store.abandon(lost)
      yield* store.lease("another")
      const before = yield* batches
      const error = new SinkError({ errorClass: "data", reason: "refused", settled: true })
      const split = store.split(lost, { error, suspect: Option.some(5) })
      expect(yield* Effect.flip(split)).toMatchObject({ _tag: "LeaseLost" })
      expect(yield* Effect.flip(store.fail(lost, { error, parked: true }))).toMatchObject({ _tag: "LeaseLost" })
      expect(yield* batches).toEqual(before)
      expect(yield* failures).toEqual([])
    }).pipe(Environment.fresh())
  )

  it.effect("Isolation of a batch that is not whole any more neither splits it nor makes a failure of it", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const store = yield* OutboxStore
      yield* publish(10, [5])
      yield* store.seal({ flush: true })
      yield* sql`DELETE FROM outbox.event WHERE event_context::jsonb @> '{"n": 9}'`
      const lease = Option.getOrThrow(yield* store.lease("by hand"))
      const before = yield* batches
      const error = new SinkError({ errorClass: "data", reason: "refused", settled: true })
      const changed = { _tag: "BatchChanged", expected: 10, actual: 9 }
      const split = store.split(lease, { error, suspect: Option.some(10) })
      expect(yield* Effect.flip(split)).toMatchObject(changed)
      expect(yield* Effect.flip(store.fail(lease, { error, parked: true }))).toMatchObject(changed)
      expect(yield* batches).toEqual(before)
      expect(yield* failures).toEqual([])
    }).pipe(Environment.fresh())
  )
})

/** Tries again soon, and seals soon. */
const soon = { OUTBOX_LINGER: "10 millis", OUTBOX_RETRY_BASE: "20 millis", OUTBOX_RETRY_CAP: "100 millis" }
