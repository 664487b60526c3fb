/** Whether ClickHouse has what the outbox delivered, and what brings back what it lost. */
import { randomUUID } from "node:crypto"
import { hostname, userInfo } from "node:os"
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Arr from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as BatchFailures from "../../src/BatchFailures.ts"
import { ClickHouse } from "../../src/ClickHouse.ts"
import * as Config from "../../src/Config.ts"
import * as Event from "../../src/Event.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import * as Operations from "../../src/Operations.ts"
import { OutboxStore } from "../../src/OutboxStore.ts"
import * as Batches from "../../src/schema/batches.ts"
import * as Outbox from "../../src/Verification/Outbox.ts"
import * as Verification from "../../src/Verification.ts"
import * as Cli from "../support/cli.ts"
import { context, nasty } from "../support/documents.ts"
import * as Environment from "../support/environment.ts"
import { counts, eventLog } from "../support/eventLog.ts"
import { batches, isDelivered } from "../support/manifest.ts"
import * as Proxy from "../support/proxy.ts"
import { drain, start } from "../support/relay.ts"
import { until } from "../support/wait.ts"

const live = (overrides: Readonly<Record<string, string>> = {}) =>
  Layer.mergeAll(Verification.layer, BatchFailures.layer, Operations.layer).pipe(
    Layer.provideMerge(Environment.layer({ OUTBOX_BATCH_EVENTS: "100", ...overrides }))
  )

/** On databases of its own. */
const fresh =
  (overrides: Readonly<Record<string, string>> = {}) =>
  <A, E, R>(test: Effect.Effect<A, E, R>) =>
    Effect.provide(Effect.scoped(test), live(overrides))

const counted = (n: number) => Event.make({ eventType: "counted", eventContext: { n } })

const publish = (from: number, to: number) => EventPublisher.publishAll(Arr.makeBy(to - from, (i) => counted(from + i)))

const inClickHouse = (statement: string) =>
  Effect.flatMap(ClickHouse, (clickHouse) => clickHouse.command(statement, {}, { settings: { mutations_sync: "1" } }))

const lose = (condition: string) => inClickHouse(`ALTER TABLE event_log DELETE WHERE ${condition}`)

/** As ClickHouse' own tools leave it after a restore: another table, with a part of the rows, that knows no token. */
const restoreBackup = (condition: string) =>
  Effect.gen(function* () {
    yield* inClickHouse("CREATE TABLE restored AS event_log")
    yield* inClickHouse(`INSERT INTO restored SELECT * FROM event_log WHERE ${condition}`)
    yield* inClickHouse("EXCHANGE TABLES restored AND event_log")
  })

const verify = (options: Omit<Verification.Options, "onFinding"> = {}) =>
  Effect.gen(function* () {
    const findings: Array<Verification.Finding> = []
    const { verify } = yield* Verification.Verification
    const report = yield* verify({
      ...options,
      onFinding: (finding) => Effect.sync(() => void findings.push(finding))
    })
    return { report, findings }
  })

const ADA = BatchFailures.Actor.make("ada")

const repair = verify({ requeueAs: ADA })

const idsOf = (findings: ReadonlyArray<Verification.Finding>, kind: "missing" | "doubled") =>
  findings.flatMap((finding) => (finding.kind === kind ? [...finding.eventIds] : [])).sort()

const none = { batches: 0, events: 0 }

layer(live(), { excludeTestServices: true })("A comparison of the databases", (it) => {
  it.effect("A comparison of the databases finds nothing where all is there, whatever waits for its delivery", () =>
    Effect.gen(function* () {
      const store = yield* OutboxStore
      yield* publish(0, 250)
      yield* drain
      yield* publish(250, 260)
      yield* store.seal({ flush: true })
      yield* publish(260, 265)
      const { findings, report } = yield* verify()
      expect(findings).toEqual([])
      expect(report).toMatchObject({
        compared: { batches: 3, events: 250 },
        notRetained: 0,
        completeSince: null,
        missing: none,
        doubled: none,
        failed: { failures: 0, events: 0 },
        undelivered: 15,
        tableTtl: null,
        isWhole: true
      })
    }).pipe(fresh())
  )

  it.effect(
    "A comparison of the databases finds each event that ClickHouse lost, and has relays bring back those and no other",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const ids = yield* publish(0, 250)
        yield* drain
        const before = yield* eventLog
        yield* lose("event_context.n.:Int64 IN (3, 4, 120)")
        const lost = [3, 4, 120].map((n) => ids[n]).sort()

        const found = yield* verify()
        expect(idsOf(found.findings, "missing")).toEqual(lost)
        expect(found.report).toMatchObject({ missing: { batches: 2, events: 3 }, requeued: none, isWhole: false })
        expect((yield* batches).every(isDelivered)).toBe(true)

        const repaired = yield* repair
        expect(idsOf(repaired.findings, "missing")).toEqual(lost)
        expect(repaired.report).toMatchObject({ requeued: { batches: 2, events: 3 }, isWhole: true })
        expect((yield* batches).map(({ state }) => state)).toEqual(["retrying", "retrying", "delivered"])
        yield* drain
        expect(yield* eventLog).toEqual(before)
        expect((yield* batches).map(({ repaired }) => repaired)).toEqual([2, 1, null])
        expect(yield* verify()).toMatchObject({ findings: [], report: { compared: { batches: 3, events: 250 } } })
        expect(
          yield* sql`SELECT actor, action, after->'missing_events' AS events FROM outbox.audit ORDER BY id`
        ).toEqual([
          { actor: "ada", action: "requeue", events: 2 },
          { actor: "ada", action: "requeue", events: 1 }
        ])
      }).pipe(fresh())
  )

  it.effect(
    "A comparison of the databases lets history be: what it requeues was delivered when it was, and waits since it was requeued",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const { overview, status } = yield* Operations.Operations
        const { gauges } = yield* OutboxStore
        yield* publish(0, 250)
        yield* drain
        const hour = 3_600_000
        // Delivered within a minute, an hour ago.
        yield* sql`
        UPDATE outbox.batch SET
          first_published_at = now() - interval '61 minutes',
          sealed_at = now() - interval '60 minutes',
          delivered_at = now() - interval '60 minutes'
      `
        const since = new Date(Date.now() - 2 * hour)
        const history = Effect.map(overview({ since, stepSeconds: 60 }), ({ buckets, now }) => ({
          now,
          past: buckets.slice(0, 100),
          lately: buckets.slice(100)
        }))
        const before = yield* history
        const { lastDeliveredAt } = yield* status
        yield* lose("event_context.n.:Int64 IN (3, 4, 120)")
        yield* repair

        expect(yield* status).toMatchObject({ backlog: 3, lastDeliveredAt })
        expect((yield* status).oldestUndeliveredMillis).toBeLessThan(hour / 2)
        expect(yield* gauges).toMatchObject({ backlogEvents: 3 })
        expect((yield* gauges).oldestUndeliveredMillis).toBeLessThan(hour / 2)
        const given = yield* history
        expect(given.past).toEqual(before.past)
        expect(given.now.backlog).toBe(3)
        expect(given.lately.at(-1)).toMatchObject({ backlog: 3, delivered: 0, p95Millis: null })

        yield* drain
        const again = yield* history
        expect(again.past).toEqual(before.past)
        expect(again.lately.every(({ backlog, delivered }) => backlog <= 3 && delivered === 0)).toBe(true)
        expect(again.lately.at(-1)).toMatchObject({ backlog: 0, oldestMillis: 0, p95Millis: null })
      }).pipe(fresh())
  )

  it.effect("A comparison of the databases lets new events go before what it requeues", () =>
    Effect.gen(function* () {
      const store = yield* OutboxStore
      yield* publish(0, 250)
      yield* drain
      yield* lose("true")
      yield* repair
      yield* publish(250, 260)
      yield* store.seal({ flush: true })
      const leases = yield* Effect.replicateEffect(Effect.flatMap(store.lease("a relay"), Effect.orDie), 4)
      expect(leases.map(({ wasRequeued }) => wasRequeued)).toEqual([false, true, true, true])
      expect(leases.slice(1).map(({ batch }) => batch.id)).toEqual([1, 2, 3])
    }).pipe(fresh())
  )

  it.effect("A comparison of the databases brings everything back, once, into a table that was truncated", () =>
    Effect.gen(function* () {
      yield* publish(0, 250)
      yield* drain
      const before = yield* eventLog
      yield* inClickHouse("TRUNCATE TABLE event_log")
      expect((yield* repair).report).toMatchObject({ missing: { batches: 3, events: 250 }, isWhole: true })
      yield* drain
      expect(yield* eventLog).toEqual(before)
    }).pipe(fresh())
  )

  it.effect(
    "A comparison of the databases brings back what a restored backup lacks, though that table knows no token and the batches are new",
    () =>
      Effect.gen(function* () {
        yield* publish(0, 250)
        yield* drain
        const before = yield* eventLog
        yield* restoreBackup("event_context.n < 130")
        expect((yield* repair).report).toMatchObject({ missing: { batches: 2, events: 120 } })
        yield* drain
        expect(yield* eventLog).toEqual(before)
      }).pipe(fresh())
  )

  it.effect("A comparison of the databases brings nothing twice when several repair at once, beside relays", () =>
    Effect.gen(function* () {
      yield* publish(0, 250)
      yield* drain
      const before = yield* eventLog
      yield* lose("event_context.n % 2 = 0")
      yield* start()
      const reports = yield* Effect.all(Arr.replicate(repair, 4), { concurrency: "unbounded" })
      // Each batch by one of them, or once more by one that saw it delivered again and ClickHouse before that.
      expect(Arr.reduce(reports, 0, (sum, { report }) => sum + report.requeued.batches)).toBeGreaterThanOrEqual(3)
      yield* until(batches, (all) => all.every(isDelivered))
      expect(yield* eventLog).toEqual(before)
    }).pipe(fresh())
  )

  it.effect("A comparison of the databases sends nothing where only who compared has asked the wrong table", () =>
    Effect.gen(function* () {
      yield* publish(0, 100)
      yield* drain
      yield* inClickHouse("CREATE TABLE another AS event_log")
      const mistaken = repair.pipe(
        Effect.provide(Layer.provide(Verification.layer, Environment.another({ CLICKHOUSE_TABLE: "another" })))
      )
      expect((yield* mistaken).report).toMatchObject({ requeued: { batches: 1, events: 100 } })
      yield* drain
      expect(yield* counts).toEqual({ rows: 100, events: 100 })
      expect((yield* batches).map(({ repaired, state }) => ({ repaired, state }))).toEqual([
        { repaired: null, state: "delivered" }
      ])
    }).pipe(fresh())
  )

  it.effect(
    "A comparison of the databases brings nothing twice though what was sent to bring it back arrives late",
    () =>
      Effect.gen(function* () {
        const { url } = yield* Config.clickHouse
        const proxy = yield* Proxy.make(Redacted.value(url))
        yield* publish(0, 3)
        yield* drain
        yield* lose("event_context.n.:Int64 = 1")
        yield* repair
        let isHeld = false
        yield* proxy.watch(({ from, request }) => {
          if (isHeld || from !== "client" || !request.includes("insert_deduplication_token")) return undefined
          isHeld = true
          return { arriving: 0, next: "pause" }
        })
        yield* start({
          CLICKHOUSE_URL: proxy.url,
          CLICKHOUSE_REQUEST_TIMEOUT: "1 second",
          OUTBOX_RETRY_BASE: "50 millis"
        })
        yield* until(batches, (all) => all.every(isDelivered))
        expect(yield* counts).toEqual({ rows: 3, events: 3 })
        expect(yield* proxy.letGo).toBe(1)
        expect(yield* counts).toEqual({ rows: 3, events: 3 })
      }).pipe(fresh({ OUTBOX_LINGER: "10 millis" }))
  )

  it.effect("A comparison of the databases is noticed by a relay that has nothing to do", () =>
    Effect.gen(function* () {
      yield* publish(0, 10)
      yield* start()
      yield* until(counts, ({ rows }) => rows === 10)
      yield* until(batches, (all) => all.every(isDelivered))
      yield* lose("true")
      yield* repair
      // Unless it is told, a worker looks once a minute.
      yield* until(counts, ({ rows }) => rows === 10)
    }).pipe(fresh())
  )

  it.effect(
    "A comparison of the databases finds no fault with a relay that delivers, isolates and empties slots meanwhile",
    () =>
      Effect.gen(function* () {
        const store = yield* OutboxStore
        yield* start({ OUTBOX_LINGER: "5 millis" })
        const publishing = yield* publish(0, 20).pipe(
          Effect.zipRight(EventPublisher.publish(Event.make({ eventType: "refused", eventContext: { n: 1e30 } }))),
          Effect.repeatN(9),
          Effect.fork
        )
        const tidying = yield* store
          .maintain({
            eventRetention: Duration.millis(50),
            failureRetention: Duration.days(1),
            incidentAfter: Duration.minutes(1)
          })
          .pipe(Effect.delay("20 millis"), Effect.forever, Effect.fork)
        let compared = 0
        const look = Effect.tap(repair, ({ report }) => {
          expect(report).toMatchObject({ missing: none, doubled: none })
          compared += report.compared.events
        })
        yield* Effect.repeat(look, { until: () => publishing.unsafePoll() !== null })
        yield* Fiber.join(publishing)
        yield* Fiber.interrupt(tidying)
        yield* until(store.status, ({ backlog }) => backlog === 0)
        yield* look
        expect(compared).toBeGreaterThan(0)
        expect(yield* counts).toEqual({ rows: 200, events: 200 })
      }).pipe(fresh())
  )

  it.effect(
    "A comparison of the databases finds events that are there more often than they were published, which one statement puts right",
    () =>
      Effect.gen(function* () {
        const ids = yield* publish(0, 250)
        // Twice under one id is what was asked for.
        yield* EventPublisher.publishAll(ids.slice(7, 9).map(again))
        yield* drain
        const times = Effect.map(eventLog, (rows) =>
          rows.map(({ eventDateTime, eventId }) => eventDateTime + eventId).sort()
        )
        const before = yield* times
        expect(yield* verify()).toMatchObject({ findings: [], report: { compared: { events: 252 } } })

        yield* inClickHouse("INSERT INTO event_log SELECT * FROM event_log WHERE event_context.n.:Int64 IN (1, 180)")
        const found = yield* verify()
        expect(idsOf(found.findings, "doubled")).toEqual([ids[1], ids[180]].sort())
        expect(found.report).toMatchObject({ doubled: { batches: 2, events: 2 }, missing: none, isWhole: false })
        expect((yield* repair).report).toMatchObject({ doubled: { batches: 2, events: 2 }, isWhole: false })

        yield* inClickHouse("OPTIMIZE TABLE event_log FINAL DEDUPLICATE BY event_type, event_date_time, event_id")
        expect(yield* times).toEqual(before)
        expect(yield* verify()).toMatchObject({ findings: [], report: { isWhole: true } })
      }).pipe(fresh())
  )

  it.effect(
    "A comparison of the databases lists what ClickHouse refused and nobody has dealt with, and misses none of it",
    () =>
      Effect.gen(function* () {
        const failures = yield* BatchFailures.BatchFailures
        yield* publish(0, 10)
        yield* EventPublisher.publishAll(
          Arr.makeBy(3, () => Event.make({ eventType: "refused", eventContext: { n: 1e30 } }))
        )
        yield* drain
        const open = yield* failures.list({ state: "open" })
        const [first, second, third] = open
        if (first === undefined || second === undefined || third === undefined) return expect.fail("no failures")
        yield* failures.discard(first.id, { note: "not wanted", actor: ADA })
        const [event] = yield* failures.events(second.id)
        if (event === undefined) return expect.fail("no event")
        yield* failures.correct(second.id, { eventId: event.eventId, correction: '{"event_context": {}}', actor: ADA })
        yield* failures.replay(second.id, { actor: ADA })
        yield* drain
        const { findings, report } = yield* verify()
        expect(findings).toEqual([
          expect.objectContaining({ kind: "failed", failureId: third.id, events: 1, errorClass: "data", code: 117 })
        ])
        expect(report).toMatchObject({ compared: { events: 11 }, failed: { failures: 1, events: 1 }, isWhole: true })
      }).pipe(fresh())
  )

  it.effect("A comparison of the databases looks at what was delivered within the time that it is given", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      for (const first of [0, 100, 200]) {
        yield* publish(first, first + 100)
        yield* drain
      }
      // Further apart than a loaded machine could have made them.
      yield* sql`UPDATE outbox.batch SET delivered_at = date '2026-01-01' + interval '1 day' * id`
      yield* lose("true")
      const found = (since?: string, until?: string) =>
        Effect.map(
          verify({ since: since ? new Date(since) : undefined, until: until ? new Date(until) : undefined }),
          ({ findings }) => findings.map((finding) => finding.batchId)
        )
      expect(yield* found()).toEqual([1, 2, 3])
      expect(yield* found("2026-01-03")).toEqual([2, 3])
      expect(yield* found("2026-01-03", "2026-01-04")).toEqual([2])
      expect(yield* found(undefined, "2026-01-03")).toEqual([1])
      expect(yield* found("2026-01-05")).toEqual([])
    }).pipe(fresh())
  )

  it.effect("A comparison of the databases goes through more batches than it compares together", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const ids = yield* publish(0, 1_100)
      yield* drain
      // As if each event had been sealed alone.
      yield* sql`
        WITH sealed AS (DELETE FROM outbox.batch RETURNING *)
        INSERT INTO outbox.batch (
          from_snapshot, to_snapshot, first_tx_id, first_id, last_tx_id, last_id, event_count, byte_count, slots,
          event_types, first_event_date_time, last_event_date_time, first_published_at, traceparents,
          state, attempts, delivered_at
        )
        SELECT
          from_snapshot, to_snapshot, tx_id, event.id, tx_id, event.id, 1, context_bytes, slots,
          event_types, event_date_time, event_date_time, published_at, '{}', state, attempts, delivered_at
        FROM sealed
        JOIN outbox.event
          ON (tx_id, event.id) >= (first_tx_id, first_id) AND (tx_id, event.id) <= (last_tx_id, last_id)
        ORDER BY event.id
      `
      yield* lose("event_context.n.:Int64 IN (0, 499, 500, 999, 1000, 1099)")
      const { findings, report } = yield* verify()
      expect(idsOf(findings, "missing")).toEqual([0, 499, 500, 999, 1_000, 1_099].map((n) => ids[n]).sort())
      expect(report).toMatchObject({ compared: { batches: 1_100, events: 1_100 }, missing: { batches: 6, events: 6 } })
    }).pipe(fresh({ OUTBOX_BATCH_EVENTS: "2000" }))
  )

  it.effect(
    "A comparison of the databases of what the outbox has only in part brings back the rest of a batch of which rows were deleted",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const ids = yield* publish(0, 100)
        yield* drain
        yield* sql`DELETE FROM outbox.event WHERE event_id = ${ids[0]}`
        yield* lose("event_context.n < 3")
        const { findings, report } = yield* repair
        expect(idsOf(findings, "missing")).toEqual([ids[1], ids[2]].sort())
        expect(report).toMatchObject({ compared: { events: 99 }, notRetained: 1, requeued: { events: 2 } })
        yield* drain
        expect(yield* counts).toEqual({ rows: 99, events: 99 })
      }).pipe(fresh())
  )

  it.effect(
    "A comparison of the databases of what the outbox has only in part brings back the rest of a batch of which events are another batch's by now",
    () =>
      Effect.gen(function* () {
        const store = yield* OutboxStore
        const ids = yield* publish(0, 100)
        yield* store.seal({ flush: true })
        const lease = Option.getOrThrow(yield* store.lease("a relay that ClickHouse refuses a part of the batch"))
        const [refused] = ids
        if (refused === undefined) return expect.fail("nothing was published")
        yield* store.republish(lease, [refused])
        yield* repair
        yield* drain
        expect(yield* counts).toEqual({ rows: 100, events: 100 })
        yield* lose("event_context.n < 3")
        expect((yield* repair).report).toMatchObject({
          compared: { batches: 2, events: 100 },
          requeued: { events: 3 }
        })
        yield* drain
        expect(yield* counts).toEqual({ rows: 100, events: 100 })
      }).pipe(fresh())
  )

  it.effect(
    "A comparison of the databases of what the outbox has only in part says since when the outbox has everything, and misses nothing that it has not",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const store = yield* OutboxStore
        yield* publish(0, 10)
        yield* drain
        yield* until(
          store.maintain({
            eventRetention: Duration.millis(1),
            failureRetention: Duration.days(1),
            incidentAfter: Duration.minutes(1)
          }),
          ({ emptied }) => emptied.includes(0)
        )
        const [left] = yield* sql<{ at: Date }>`SELECT left_at AS at FROM outbox.slot WHERE slot = 0`
        yield* publish(10, 20)
        yield* drain
        yield* lose("true")
        const { findings, report } = yield* repair
        expect(idsOf(findings, "missing")).toHaveLength(10)
        expect(report).toMatchObject({ compared: { events: 10 }, completeSince: left?.at })
        yield* drain
        expect(yield* counts).toEqual({ rows: 10, events: 10 })
      }).pipe(fresh())
  )

  it.effect(
    "A comparison of the databases of what the outbox has only in part leaves a batch alone whose rows have gone since it was read, or that was requeued by another",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const outbox = Outbox.make(sql)
        const [eventId] = yield* publish(0, 10)
        yield* drain
        const range = { since: null, until: "infinity" }
        const [delivered] = yield* outbox.nextDelivered(range, 0)
        if (delivered === undefined || eventId === undefined) return expect.fail("nothing was delivered")
        const requeue = Batches.requeue(sql, delivered, { missing: [eventId], actor: ADA })
        expect(yield* requeue).toBe(true)
        expect(yield* requeue).toBe(false)
        yield* drain
        const [again] = yield* outbox.nextDelivered(range, 0)
        if (again === undefined) return expect.fail("it was not delivered again")
        // Of what it was when it was seen first there is nothing to requeue.
        expect(yield* requeue).toBe(false)
        yield* sql`TRUNCATE outbox.event`
        expect(yield* Batches.requeue(sql, again, { missing: [eventId], actor: ADA })).toBe(false)
        expect((yield* batches).every(isDelivered)).toBe(true)
      }).pipe(fresh())
  )

  {
    const withContents = verify({ contents: true })

    it.effect(
      "A comparison of the databases of contents finds each event that ClickHouse has as something else, and no other",
      () =>
        Effect.gen(function* () {
          const ids = yield* publish(0, 250)
          yield* drain
          expect((yield* withContents).report).toMatchObject({
            compared: { events: 250 },
            changed: none,
            isWhole: true
          })
          const change = (set: string, n: number) =>
            inClickHouse(`ALTER TABLE event_log UPDATE ${set} WHERE event_id = '${ids[n]}'`)
          yield* change(`event_context = '{"n": 5}'`, 3)
          yield* change(`event_context = '{"n": 120, "more": 1}'`, 120)
          yield* change("environment = 'another'", 121)
          yield* change("metadata_version = 7", 122)
          yield* change("trace_id = 'a'", 249)
          expect(yield* verify()).toMatchObject({ findings: [], report: { changed: null, isWhole: true } })
          const { findings, report } = yield* withContents
          const found = findings.flatMap((finding) => (finding.kind === "changed" ? finding.eventIds : []))
          expect(found.toSorted()).toEqual([3, 120, 121, 122, 249].map((n) => ids[n]).sort())
          expect(report).toMatchObject({
            changed: { batches: 3, events: 5 },
            missing: none,
            doubled: none,
            isWhole: false
          })
          const printed = yield* Cli.run(["verify", "--contents"])
          expect(printed).toMatchObject({
            code: 2,
            stdout: expect.stringMatching(/^changed {6}5 events in 3 batches$/m)
          })

          yield* lose(`event_id IN (${found.map((id) => `'${id}'`).join(", ")})`)
          yield* repair
          yield* drain
          expect((yield* withContents).report).toMatchObject({ changed: none, missing: none, isWhole: true })
        }).pipe(fresh())
    )

    it.effect("A comparison of the databases of contents takes what ClickHouse's JSON type changes for the same", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* EventPublisher.publishAll(
          FastCheck.sample(context, 500).map((eventContext) => Event.make({ eventType: "random", eventContext }))
        )
        yield* EventPublisher.publishAll(
          nasty
            .filter((name) => name !== "")
            .map((name) => Event.make({ eventType: name, environment: name, eventContext: {} }))
        )
        yield* sql`
          SELECT outbox.publish(
            'changed', context::jsonb, '2026-01-01T00:00:00.000010Z',
            traceparent => '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
          )
          FROM unnest(${CHANGED_BY_JSON}::text[]) AS context
        `
        yield* drain
        const { findings, report } = yield* withContents
        expect(findings).toEqual([])
        expect(report.compared.events).toBeGreaterThan(550)
      }).pipe(fresh({ OUTBOX_BATCH_EVENTS: "2000" }))
    )

    it.effect(
      "A comparison of the databases of contents is enough if one of two that were published under one id says the same",
      () =>
        Effect.gen(function* () {
          const ids = yield* publish(0, 20)
          yield* EventPublisher.publishAll(ids.slice(0, 5).map(again))
          yield* drain
          expect(yield* withContents).toMatchObject({
            findings: [],
            report: { compared: { events: 25 }, changed: none }
          })
        }).pipe(fresh())
    )
  }

  it.effect("A comparison of the databases says what ClickHouse removes by itself", () =>
    Effect.gen(function* () {
      yield* inClickHouse("ALTER TABLE event_log MODIFY TTL toDateTime(event_date_time) + INTERVAL 1 YEAR")
      expect((yield* verify()).report.tableTtl).toMatch(/^toDateTime\(event_date_time\) \+ toInterval/)
    }).pipe(fresh())
  )
})

/** Of docs/architecture.md, beside each other in one batch. */
const CHANGED_BY_JSON = [
  '{"a": null, "b": {"c": {}}, "d": 1}',
  '{"nested": [[1], null]}',
  '{"a": 18446744073709551615, "b": -9223372036854775808}',
  '{"ids": [9007199254740993]}',
  '{"ids": [0.5]}',
  '{"ids": [18446744073709551615, 0]}',
  '{"items": [null]}',
  '{"items": [{"x": 1}]}',
  '{"fraction": 12345678901234567890.5, "b": 1.10, "c": 1.0, "d": 0.00000012, "e": 1000000000000000000000000.25}',
  '{"tiny": 1e-789}',
  '{"a": {"b": 1}, "a.b": 2}',
  '{"a%2Eb": 1}'
]

const again = (eventId: string) =>
  Event.make({ eventType: "counted", eventContext: {}, eventId, eventDateTime: new Date("2026-01-01") })

layer(live(), { excludeTestServices: true })("clickhouse-outbox verify", (it) => {
  it.effect(
    "clickhouse-outbox verify prints what is missing, doubled and failed, and says so with exit code 2 until it is put right",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const ids = yield* publish(0, 10)
        yield* EventPublisher.publish(Event.make({ eventType: "refused", eventContext: { n: 1e30 } }))
        yield* drain
        const whole = yield* Cli.run(["verify"])
        expect(whole).toEqual(
          Cli.succeeded(
            expect.stringMatching(
              new RegExp(
                "^failed {3}batch \\d+: 1 event in failure 1, data 117\n" +
                  "compared {5}10 events in 1 batch, delivered before 20.+Z\n" +
                  "complete {5}from the first event on\n" +
                  "missing {6}none\n" +
                  "doubled {6}none\n" +
                  "failed {7}1 event in 1 open failure\n" +
                  "undelivered  0 events\n$"
              )
            )
          )
        )
        yield* lose("event_context.n < 5")
        yield* inClickHouse("INSERT INTO event_log SELECT * FROM event_log WHERE event_context.n = 9")
        const found = yield* Cli.run(["verify"])
        expect(found).toMatchObject({ code: 2, stderr: "" })
        expect(found.stdout).toMatch(
          /^missing {2}batch \d+: 5 events, [0-9a-f-]{36}, [0-9a-f-]{36}, [0-9a-f-]{36} and 2 more\n/
        )
        expect(found.stdout).toMatch(new RegExp(`^doubled {2}batch \\d+: 1 event, ${ids[9]}$`, "m"))
        expect(found.stdout).toContain("clickhouse-outbox verify --repair")
        const lines = (yield* Cli.run(["verify", "--json"])).stdout.trimEnd().split("\n")
        const [missing, doubled, failed, report] = lines.map((line) => JSON.parse(line))
        expect(missing).toMatchObject({ kind: "missing", requeued: false })
        expect(missing.event_ids.toSorted()).toEqual(ids.slice(0, 5).toSorted())
        expect(doubled).toMatchObject({ kind: "doubled", event_ids: [ids[9]] })
        expect(failed).toMatchObject({ kind: "failed", failure_id: 1, events: 1, class: "data", code: 117 })
        expect(report).toMatchObject({
          kind: "report",
          compared: { batches: 1, events: 10 },
          missing: { batches: 1, events: 5 },
          requeued: { batches: 0, events: 0 },
          doubled: { batches: 1, events: 1 },
          failed: { failures: 1, events: 1 },
          undelivered: 0,
          complete_since: null,
          table_ttl: null
        })

        yield* inClickHouse("OPTIMIZE TABLE event_log FINAL DEDUPLICATE BY event_type, event_date_time, event_id")
        const repaired = yield* Cli.run(["verify", "--repair", "--since", "1h"])
        expect(repaired).toMatchObject({ code: 0, stdout: expect.stringContaining("requeued     5 events in 1 batch") })
        yield* Cli.run(["relay", "--until-empty"])
        expect(yield* Cli.run(["verify"])).toMatchObject({ code: 0 })
        expect(yield* counts).toEqual({ rows: 10, events: 10 })
        expect(yield* sql`SELECT actor, action FROM outbox.audit`).toEqual([
          { actor: `${userInfo().username}@${hostname()}`, action: "requeue" }
        ])
      }).pipe(fresh())
  )

  it.effect("clickhouse-outbox verify ends with exit code 1 where it could not compare, and says why", () =>
    Effect.gen(function* () {
      expect(yield* Cli.run(["verify"], { variables: { DATABASE_URL: Cli.UNREACHABLE } })).toEqual(
        Cli.failed(expect.stringMatching(/^Postgres at 127\.0\.0\.1:1 cannot be reached: /))
      )
      expect(yield* Cli.run(["verify"], { variables: { CLICKHOUSE_TABLE: `t${randomUUID().slice(0, 8)}` } })).toEqual(
        Cli.failed(expect.stringContaining('does not exist. Run "clickhouse-outbox migrate"'))
      )
    })
  )
})
