/** What a console shows of an outbox: how it fares, and how its databases and relays are. */
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Number from "effect/Number"
import * as Redacted from "effect/Redacted"
import * as Config from "../../src/Config.ts"
import * as Event from "../../src/Event.ts"
import { EventLog } from "../../src/EventLog.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import { PREFIX, relayId } from "../../src/internal/relayId.ts"
import * as Operations from "../../src/Operations.ts"
import { OutboxStore } from "../../src/OutboxStore.ts"
import * as Postgres from "../../src/Postgres.ts"
import * as Cli from "../support/cli.ts"
import * as Environment from "../support/environment.ts"
import * as History from "../support/history.ts"
import { ask, asker, issuesOf, services, start } from "../support/operator.ts"
import * as Proxy from "../support/proxy.ts"
import { drain } from "../support/relay.ts"
import { until } from "../support/wait.ts"

const live = Layer.provideMerge(services, Environment.layer())

/** On databases of its own. */
const fresh = <A, E, R>(test: Effect.Effect<A, E, R>) => Effect.provide(Effect.scoped(test), live)

const event = (eventContext: Event.JsonObject = {}) => Event.make({ eventType: "overview_tested", eventContext })

const overview = (range?: Operations.OverviewRange) =>
  Effect.flatMap(Operations.Operations, ({ overview }) => overview(range))

const minutesAgo = (minutes: number) => new Date(Date.now() - minutes * 60_000)

const sum = (buckets: ReadonlyArray<Operations.OverviewBucket>, of: (bucket: Operations.OverviewBucket) => number) =>
  Number.sumAll(buckets.map(of))

/** The buckets that began in a stretch of time, in minutes before now. */
const between = (buckets: ReadonlyArray<Operations.OverviewBucket>, from: number, until: number) =>
  buckets.filter(({ at }) => at >= minutesAgo(from) && at < minutesAgo(until))

layer(live, { excludeTestServices: true })("The overview", (it) => {
  it.scoped("The overview counts what was published, delivered and refused, and says how long that took", () =>
    Effect.gen(function* () {
      yield* EventPublisher.publishAll(Arr.makeBy(20, () => event()))
      yield* drain
      yield* EventPublisher.publishAll([event(), event({ n: 1e30 })])
      yield* drain
      const { buckets, now } = yield* overview()
      expect(sum(buckets, ({ published }) => published)).toBeCloseTo(22)
      expect(sum(buckets, ({ delivered }) => delivered)).toBe(21)
      expect(sum(buckets, ({ refused }) => refused)).toBe(1)
      expect(sum(buckets, ({ failures }) => failures)).toBe(1)
      expect(sum(buckets, ({ batches }) => batches)).toBe(2)
      expect(buckets.at(-1)).toMatchObject({ backlog: 0, oldestMillis: 0 })
      const [delivered] = buckets.filter(({ delivered }) => delivered > 0)
      expect(delivered?.p50Millis).toBeGreaterThan(0)
      expect(delivered?.p95Millis).toBeGreaterThanOrEqual(delivered?.p50Millis ?? 0)
      expect(now).toMatchObject({ backlog: 0, openFailures: 1, openFailureEvents: 1, relayPaused: false })
    }).pipe(fresh)
  )

  it.scoped("The overview has what was published before anything has sealed or delivered it", () =>
    Effect.gen(function* () {
      yield* EventPublisher.publishAll(Arr.makeBy(7, () => event()))
      const { buckets, now } = yield* overview()
      expect(now.backlog).toBe(7)
      expect(now.oldestMillis).toBeGreaterThan(0)
      expect(sum(buckets, ({ published }) => published)).toBeCloseTo(7)
      expect(buckets.at(-1)).toMatchObject({ backlog: 7, delivered: 0, p50Millis: null })
      expect(buckets.at(-1)?.oldestMillis).toBeGreaterThan(0)
      expect(buckets.at(-30)).toMatchObject({ backlog: 0, oldestMillis: 0 })
    }).pipe(fresh)
  )

  it.scoped("The overview shows an outage that is over: what waited, for how long, and how it was caught up with", () =>
    Effect.gen(function* () {
      // 600 events a minute. From 30 minutes ago on nothing was delivered, and 10 minutes ago everything that waited.
      const minutes = Arr.range(1, 39)
      yield* History.write(
        minutes.map((minute) => ({
          events: 600,
          published: (41 - minute) * 60,
          sealed: (40 - minute) * 60,
          delivered: 41 - minute > 30 || 40 - minute < 10 ? (40 - minute) * 60 - 1 : 10 * 60
        }))
      )
      const { buckets } = yield* overview({ since: minutesAgo(60), stepSeconds: 60 })
      expect(sum(buckets, ({ published }) => published)).toBeCloseTo(39 * 600, 0)
      expect(sum(buckets, ({ delivered }) => delivered)).toBe(39 * 600)
      for (const { published } of between(buckets, 38, 3)) expect(published).toBeCloseTo(600, 0)
      for (const { delivered } of between(buckets, 28, 12)) expect(delivered).toBe(0)
      const middle = between(buckets, 21, 20)[0]
      // 10 minutes into it, or up to 11.
      expect(middle?.backlog).toBeGreaterThanOrEqual(9 * 600)
      expect(middle?.backlog).toBeLessThanOrEqual(12 * 600)
      expect(middle?.oldestMillis).toBeGreaterThanOrEqual(9 * 60_000)
      expect(middle?.oldestMillis).toBeLessThanOrEqual(12 * 60_000)
      const recovery = buckets.filter(({ delivered }) => delivered > 1_200)
      expect(recovery).toHaveLength(1)
      expect(recovery[0]?.p95Millis).toBeGreaterThan(15 * 60_000)
      for (const { backlog } of between(buckets, 8, 3)) expect(backlog).toBeLessThanOrEqual(1_200)
      expect(buckets.at(-1)).toMatchObject({ backlog: 0, oldestMillis: 0 })
    }).pipe(fresh)
  )

  it.scoped("The overview does not draw a batch over an hour because one of its transactions took that long", () =>
    Effect.gen(function* () {
      yield* History.write([
        { events: 100, published: 310, sealed: 300, delivered: 299 },
        { events: 100, published: 3_600, sealed: 290, delivered: 289 }
      ])
      const { buckets } = yield* overview({ since: minutesAgo(120), stepSeconds: 60 })
      expect(sum(between(buckets, 7, 3), ({ published }) => published)).toBeCloseTo(200)
    }).pipe(fresh)
  )

  it.scoped(
    "The overview draws batches that were sealed at the same time as it drew them, when Postgres has moved their rows",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const once = { published: 100, sealed: 40, delivered: 40 }
        yield* History.write([50, 200, 100].map((events) => ({ events, ...once })))
        yield* sql`UPDATE outbox.batch SET (first_published_at, sealed_at) = (now() - '100 s'::interval, now() - '40 s'::interval)`
        const range = { since: minutesAgo(5), stepSeconds: 5 }
        const published = Effect.map(overview(range), ({ buckets }) => buckets.map(({ published }) => published))
        const first = yield* published
        expect(Number.sumAll(first)).toBeCloseTo(350)
        for (const events of [200, 50]) {
          yield* sql`UPDATE outbox.batch SET delivered_at = delivered_at - interval '1 microsecond' WHERE event_count = ${events}`
          expect((yield* published).slice(0, first.length)).toEqual(first)
        }
      }).pipe(fresh)
  )

  it.scoped("The overview is of all relays, and knows since when", () =>
    Effect.gen(function* () {
      yield* History.write([
        { events: 1, published: 50, sealed: 49, delivered: 48, owner: "a/1/0" },
        { events: 2, published: 40, sealed: 39, delivered: 38, owner: "b/1/0" }
      ])
      const { buckets, recordedSince } = yield* overview()
      expect(sum(buckets, ({ delivered }) => delivered)).toBe(3)
      expect(recordedSince?.getTime()).toBeGreaterThan(Date.now() - 60_000)
    }).pipe(fresh)
  )

  it.scoped("The overview has its buckets where they were when it is asked again, without a gap", () =>
    Effect.gen(function* () {
      const askServer = yield* asker()
      const tenMinutesAgo = minutesAgo(10).getTime()
      const times = Effect.map(askServer("GET /api/overview?minutes=10&step=30"), ({ json }) =>
        Arr.map(Object(json).buckets, (bucket) => Date.parse(Object(bucket).at))
      )
      const first = yield* times
      const [second = 0] = yield* times
      // A step later at most.
      expect(first.slice(0, 2)).toContain(second)
      expect(first.every((time, index) => time === (first[0] ?? 0) + index * 30_000)).toBe(true)
      expect(first[0]).toBeGreaterThan(tenMinutesAgo - 30_000)
      expect(first[0]).toBeLessThanOrEqual(minutesAgo(10).getTime())
      expect(first.at(-1)).toBeGreaterThan(Date.now() - 60_000)
    })
  )

  it.scoped("The overview reads the manifest through its indexes alone", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* History.write(
        Arr.makeBy(500, (index) => ({ events: 1, published: index + 2, sealed: index + 1, delivered: index + 1 }))
      )
      yield* sql`VACUUM ANALYZE outbox.batch`
      yield* overview()
      const used = sql<{ used: ReadonlyArray<string>; rows: number }>`
        SELECT
          array_agg(indexrelname::text ORDER BY indexrelname) FILTER (WHERE idx_tup_read >= 500) AS used,
          sum(idx_tup_fetch)::integer AS rows
        FROM pg_stat_user_indexes
        WHERE indexrelname IN ('batch_delivered_at', 'batch_sealed_at')
      `
      // Told by a connection that may be another's, when it has been idle for a while.
      const seen = yield* until(used, ([seen]) => seen?.used?.length === 2)
      expect(seen).toEqual([{ used: ["batch_delivered_at", "batch_sealed_at"], rows: 0 }])
    }).pipe(fresh)
  )

  const refused: Record<string, [query: string, says: string]> = {
    "more than a day": ["minutes=1441", "minutes: Expected a whole number from 1 to 1440"],
    "more buckets than anybody sees": ["minutes=1380&step=1", "step: Would be more than 1000 buckets"],
    "a step of nothing": ["step=0", "step: Expected a whole number from 1 to 3600"]
  }

  it.scoped("The overview refuses what would cost too much", () =>
    Effect.gen(function* () {
      const askServer = yield* asker()
      for (const [what, [query, says]] of Object.entries(refused)) {
        const answer = yield* askServer(`GET /api/overview?${query}`)
        expect({ what, status: answer.status }).toEqual({ what, status: 400 })
        expect(issuesOf(answer).join("\n"), what).toContain(says)
      }
    })
  )
})

layer(live, { excludeTestServices: true })("The systems", (it) => {
  const systems = (url: string) => Effect.map(ask(url, "GET /api/systems"), ({ json }) => Object(json))
  const relays = Effect.flatMap(Operations.Operations, ({ relays }) => relays)

  it.scoped("The systems say which version answers, how fast, and that nothing is missing", () =>
    Effect.gen(function* () {
      expect(yield* systems(yield* start())).toMatchObject({
        postgres: { reachable: true, migrated: true, reason: null, version: expect.stringMatching(/^\d+/) },
        clickhouse: { reachable: true, migrated: true, reason: null, version: expect.stringMatching(/^\d+\.\d+/) },
        relays: [{ id: relayId, self: true }]
      })
    })
  )

  it.scoped("The systems say what is wrong with a ClickHouse that has no table, and with one that is not there", () =>
    Effect.gen(function* () {
      const another = (overrides: Record<string, string>) =>
        Effect.flatMap(Layer.build(Layer.provideMerge(services, Environment.another(overrides))), (context) =>
          Effect.provide(Effect.flatMap(start(), systems), context)
        )
      expect(yield* another({ CLICKHOUSE_TABLE: "nowhere" })).toMatchObject({
        postgres: { reachable: true },
        clickhouse: { reachable: true, migrated: false, reason: expect.stringContaining("clickhouse-outbox migrate") }
      })
      expect(yield* another({ CLICKHOUSE_URL: "http://127.0.0.1:1" })).toMatchObject({
        postgres: { reachable: true },
        clickhouse: {
          reachable: false,
          migrated: false,
          reason: expect.stringContaining("ECONNREFUSED"),
          ping_ms: null
        }
      })
    })
  )

  it.scoped("The systems keep nobody from Postgres while they wait for ClickHouse", () =>
    Effect.gen(function* () {
      const answering = yield* Effect.makeLatch()
      const waiting = yield* Effect.makeLatch()
      const { server, ...eventLog } = yield* EventLog
      const url = yield* start().pipe(
        Effect.provideService(EventLog, {
          ...eventLog,
          server: waiting.open.pipe(Effect.zipRight(answering.await), Effect.zipRight(server))
        })
      )
      const asked = yield* Effect.fork(Effect.all(Arr.replicate(systems(url), 12), { concurrency: "unbounded" }))
      yield* waiting.await
      expect((yield* ask(url, "GET /api/status")).status).toBe(200)
      yield* answering.open
      for (const seen of yield* asked) {
        expect(seen).toMatchObject({ postgres: { reachable: true }, clickhouse: { reachable: true } })
      }
    })
  )

  it.scoped("The systems are told of while Postgres does not answer", () =>
    Effect.gen(function* () {
      const { DATABASE_URL = "" } = yield* Environment.Environment
      const proxy = yield* Proxy.make(DATABASE_URL)
      const context = yield* Layer.build(
        Layer.provideMerge(
          services,
          Environment.another({ DATABASE_URL: proxy.url, DATABASE_CONNECT_TIMEOUT: "1 second" })
        )
      )
      const url = yield* Effect.provide(start(), context)
      yield* proxy.freeze(true)
      yield* proxy.cut
      expect(yield* systems(url)).toMatchObject({
        postgres: { reachable: false, reason: expect.any(String), version: null },
        clickhouse: { reachable: true },
        relays: null
      })
    })
  )

  it.scoped("The systems know a relay by what it does: a batch that it has, and what it delivered", () =>
    Effect.gen(function* () {
      const store = yield* OutboxStore
      yield* EventPublisher.publishAll([event(), event()])
      yield* store.seal({ flush: true })
      yield* store.lease("pod-a/17/3")
      yield* History.write([
        { events: 5, published: 9, sealed: 8, delivered: 7, owner: "pod-b/1/0" },
        { events: 6, published: 9, sealed: 8, delivered: 6, owner: "pod-b/1/1" },
        { events: 7, published: 9_000, sealed: 8_000, delivered: 7_000, owner: "pod-c/1/0" }
      ])
      const seen = yield* relays
      expect(seen.map(({ id }) => id).sort()).toEqual([relayId, "pod-a/17", "pod-b/1"].sort())
      expect(seen.find(({ id }) => id === "pod-a/17")).toMatchObject({
        self: false,
        leases: [{ eventCount: 2, worker: 3, since: expect.any(Date), until: expect.any(Date) }],
        deliveredBatches: 0
      })
      expect(seen.find(({ id }) => id === "pod-b/1")).toMatchObject({
        leases: [],
        deliveredBatches: 2,
        deliveredEvents: 11,
        lastDeliveredAt: expect.any(Date)
      })
    }).pipe(fresh)
  )

  it.scoped("The systems know a relay that has nothing to do, by its connections", () =>
    Effect.gen(function* () {
      yield* Cli.start(["relay"])
      const [, idle] = yield* until(
        Effect.map(
          relays,
          Arr.partition(({ self }) => !self)
        ),
        ([, others]) => others.length > 0
      )
      expect(idle).toMatchObject([{ connectedSince: expect.any(Date), leases: [], deliveredBatches: 0 }])
      expect(idle[0]?.connections).toBeGreaterThan(0)
      expect(idle[0]?.id).toMatch(/\/\d+$/)
    }).pipe(fresh)
  )

  it.scoped("The systems know a relay whose role is another, without a right to look at its sessions", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql.unsafe(`
          DO $$ BEGIN CREATE ROLE overview_looker LOGIN PASSWORD 'x'; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
          GRANT USAGE ON SCHEMA outbox TO overview_looker;
          GRANT SELECT ON ALL TABLES IN SCHEMA outbox TO overview_looker;
        `)
      const config = yield* Config.postgres
      const url = new URL(Redacted.value(config.url))
      url.username = "overview_looker"
      url.password = "x"
      const context = yield* Layer.build(Postgres.layer(config, `${PREFIX}pod-x/5`))
      yield* Effect.provide(
        Effect.flatMap(SqlClient.SqlClient, (sql) => sql`SELECT 1`),
        context
      )
      const seen = yield* relays.pipe(
        Effect.provide(Operations.layer),
        Effect.provide(Environment.another({ DATABASE_URL: url.href }))
      )
      expect(seen.find(({ id }) => id === "pod-x/5")).toMatchObject({ connections: 1, connectedSince: null })
    }).pipe(fresh)
  )
})
