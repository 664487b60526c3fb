/**
 * A cluster: what a lagging replica must not answer, whom to ask whether an insert still runs, what migrate sends, and
 * which tables are refused. Replication itself is tested in cluster.docker.test.ts.
 */
import { expect, layer } from "@effect/vitest"
import * as Arr from "effect/Array"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as ClickHouseModule from "../../src/ClickHouse.ts"
import { ClickHouse } from "../../src/ClickHouse.ts"
import * as ClickHouseSink from "../../src/ClickHouseSink.ts"
import * as Config from "../../src/Config.ts"
import { EventId } from "../../src/Event.ts"
import type { EmbeddedServer } from "../../src/embedded/EmbeddedServer.ts"
import * as Migrations from "../../src/Migrations.ts"
import * as Cluster from "../support/cluster.ts"
import { batch } from "../support/stubs.ts"
import { until } from "../support/wait.ts"

class Servers extends Context.Tag("test/Servers")<Servers, readonly [EmbeddedServer, EmbeddedServer]>() {}

const COLUMNS = `(
  event_type LowCardinality(String), event_date_time DateTime64(6, 'UTC'), environment LowCardinality(String),
  event_context JSON, metadata_version UInt64, event_id UUID, trace_id String
)`

/** The services as somebody has them who sets these variables. */
const configured = (variables: Readonly<Record<string, string>>) =>
  Layer.provideMerge(ClickHouseSink.layerConfig, ClickHouseModule.layerConfig).pipe(
    Layer.provide(
      Layer.setConfigProvider(
        ConfigProvider.fromMap(
          new Map(
            Object.entries({ CLICKHOUSE_DATABASE: "default", CLICKHOUSE_REQUEST_TIMEOUT: "4 seconds", ...variables })
          )
        )
      )
    )
  )

const CLUSTER = { CLICKHOUSE_CLUSTER: "events" }

const check = Effect.flatMap(ClickHouseSink.ClickHouseSink, (sink) => sink.check)
const missing = Effect.flatMap(ClickHouseSink.ClickHouseSink, (sink) => sink.missing(batch, [EVENT_ID]))
const isInserting = (token: string) => Effect.flatMap(ClickHouseSink.ClickHouseSink, (sink) => sink.isInserting(token))

/** A table of the name that relays write to, on the first server or on both, for as long as the scope is open. */
const table = (name: string, definition: string, on: ReadonlyArray<EmbeddedServer>) =>
  Effect.forEach(on, ({ url }) =>
    Effect.acquireRelease(Cluster.send(url, `CREATE TABLE ${name} ${definition}`), () =>
      Cluster.send(url, `DROP TABLE ${name} SYNC`)
    )
  )

const replicated = (replica: string) => `${COLUMNS} ENGINE = ReplicatedMergeTree('/event_log', '${replica}')
  PARTITION BY toYYYYMM(event_date_time) ORDER BY (event_type, event_date_time, event_id)
  SETTINGS replicated_deduplication_window = 500, replicated_deduplication_window_seconds = 604800,
    non_replicated_deduplication_window = 10000`

const PLAIN = `${COLUMNS} ENGINE = MergeTree ORDER BY event_type SETTINGS non_replicated_deduplication_window = 10000`

const isSync = ({ body }: Cluster.Seen) => body.includes("SYSTEM SYNC REPLICA")
const isQuestion = ({ body }: Cluster.Seen) => body.includes("SELECT toString(event_id)")

layer(Layer.scoped(Servers, Cluster.make), { excludeTestServices: true })((it) => {
  {
    const refused: Record<string, string> = {
      Distributed: `${COLUMNS} ENGINE = Distributed('events', default, elsewhere, rand())`,
      Null: `${COLUMNS} ENGINE = Null`,
      Memory: `${COLUMNS} ENGINE = Memory`,
      Buffer: `${COLUMNS} ENGINE = Buffer(default, elsewhere, 1, 10, 100, 10000, 1000000, 10000000, 100000000)`,
      Merge: `${COLUMNS} ENGINE = Merge(default, '^elsewhere$')`
    }
    for (const [engine, definition] of Object.entries(refused)) {
      it.scoped(`A cluster which table a ${engine} table is refused, and it is said what to name instead`, () =>
        Effect.gen(function* () {
          const [first] = yield* Servers
          yield* table("elsewhere", PLAIN, [first])
          yield* table("event_log", definition, [first])
          const error = yield* Effect.flip(Effect.provide(check, configured({ CLICKHOUSE_URL: first.url })))
          expect(error).toMatchObject({
            errorClass: "configuration",
            settled: true,
            reason: expect.stringMatching(new RegExp(`\\b${engine}\\b.*Set CLICKHOUSE_TABLE to`))
          })
          expect(String(error)).not.toContain("MODIFY SETTING")
        })
      )
    }

    it.scoped("A cluster which table a view is refused too", () =>
      Effect.gen(function* () {
        const [first] = yield* Servers
        yield* table("elsewhere", PLAIN, [first])
        yield* Effect.acquireRelease(Cluster.send(first.url, "CREATE VIEW event_log AS SELECT * FROM elsewhere"), () =>
          Cluster.send(first.url, "DROP VIEW event_log")
        )
        const error = yield* Effect.flip(Effect.provide(check, configured({ CLICKHOUSE_URL: first.url })))
        expect(error).toMatchObject({ errorClass: "configuration", reason: expect.stringContaining("(View)") })
      })
    )

    it.scoped(
      "A cluster which table one with several replicas is refused until CLICKHOUSE_CLUSTER says where to ask for running inserts",
      () =>
        Effect.gen(function* () {
          const [first] = yield* Servers
          yield* table("event_log", replicated("a"), [first])
          yield* table("other_replica", replicated("b"), [first])
          const error = yield* Effect.flip(Effect.provide(check, configured({ CLICKHOUSE_URL: first.url })))
          expect(error).toMatchObject({
            errorClass: "configuration",
            reason: expect.stringContaining("Set CLICKHOUSE_CLUSTER")
          })
          const named = (cluster: string) =>
            Effect.provide(
              check,
              configured({ CLICKHOUSE_URL: first.url, CLICKHOUSE_USER: "granted", CLICKHOUSE_CLUSTER: cluster })
            )
          expect(yield* Effect.flip(named("evnts"))).toMatchObject({
            errorClass: "configuration",
            reason: expect.stringContaining("CLICKHOUSE_CLUSTER is evnts, of which the server knows nothing")
          })
          yield* named("events")
          // One more than the cluster has servers.
          yield* table("third_replica", replicated("c"), [first])
          expect(yield* Effect.flip(named("events"))).toMatchObject({
            errorClass: "configuration",
            reason: expect.stringMatching(/has 2 servers, but .* has 3 replicas/)
          })
        })
    )

    it.scoped("A cluster which table one with a single replica needs no cluster", () =>
      Effect.gen(function* () {
        const [first] = yield* Servers
        yield* table("event_log", replicated("a"), [first])
        yield* Effect.provide(check, configured({ CLICKHOUSE_URL: first.url, CLICKHOUSE_USER: "limited" }))
      })
    )

    it.scoped("A cluster which table one that is not replicated is refused in a cluster", () =>
      Effect.gen(function* () {
        const [first] = yield* Servers
        yield* table("event_log", PLAIN, [first])
        const error = yield* Effect.flip(Effect.provide(check, configured({ CLICKHOUSE_URL: first.url, ...CLUSTER })))
        expect(error).toMatchObject({
          errorClass: "configuration",
          reason: expect.stringContaining("is not replicated")
        })
      })
    )

    it.scoped(
      "A cluster which table a replicated one remembers tokens as its replicated_deduplication_window says, in number and in time",
      () =>
        Effect.gen(function* () {
          const [first] = yield* Servers
          yield* table("event_log", replicated("a"), [first])
          const window = yield* Effect.flatMap(ClickHouseSink.ClickHouseSink, (sink) => sink.deduplicationWindow).pipe(
            Effect.provide(configured({ CLICKHOUSE_URL: first.url, ...CLUSTER }))
          )
          expect(window).toEqual({ parts: 500, age: Duration.weeks(1) })
        })
    )
  }

  it.scoped(
    "A cluster the question for missing events is not answered by a replica that cannot catch up: the batch stays in doubt",
    () =>
      Effect.gen(function* () {
        const [first] = yield* Servers
        yield* table("event_log", replicated("a"), [first])
        const error = yield* Effect.flip(Effect.provide(missing, configured({ CLICKHOUSE_URL: first.url, ...CLUSTER })))
        expect(error).toMatchObject({ errorClass: "in-doubt", code: 242, settled: false })
      })
  )

  it.scoped(
    "A cluster the question for missing events is asked by a user who has the privileges that the docs name",
    () =>
      Effect.gen(function* () {
        const [first] = yield* Servers
        yield* table("event_log", replicated("a"), [first])
        const granted = configured({ CLICKHOUSE_URL: first.url, CLICKHOUSE_USER: "granted", ...CLUSTER })
        expect(yield* Effect.flip(Effect.provide(missing, granted))).toMatchObject({ code: 242 })
        expect(yield* Effect.provide(isInserting("nobody's"), granted)).toBe(false)
      })
  )

  it.scoped("A cluster the question for missing events needs a privilege, and names it", () =>
    Effect.gen(function* () {
      const [first] = yield* Servers
      yield* table("event_log", replicated("a"), [first])
      const error = yield* Effect.flip(
        Effect.provide(missing, configured({ CLICKHOUSE_URL: first.url, CLICKHOUSE_USER: "limited", ...CLUSTER }))
      )
      expect(error).toMatchObject({
        errorClass: "configuration",
        code: 497,
        reason: expect.stringContaining("the grant SYSTEM SYNC REPLICA ON default.event_log")
      })
    })
  )

  it.scoped(
    "A cluster the question for missing events is answered by the server that has caught up, also behind a balancer that takes turns",
    () =>
      Effect.gen(function* () {
        const [first, second] = yield* Servers
        yield* table("event_log", replicated("a"), [first, second])
        const answered: Array<string> = []
        let turn = 0
        const url = yield* Cluster.balancer((seen) => {
          if (isSync(seen)) return { to: first.url, instead: CAUGHT_UP }
          if (!isQuestion(seen)) return { to: first.url }
          const to = [second, first][turn++ % 2] ?? first
          answered.push(to.url)
          return { to: to.url }
        })
        expect(yield* Effect.provide(missing, configured({ CLICKHOUSE_URL: url, ...CLUSTER }))).toEqual([EVENT_ID])
        expect(answered).toEqual([second.url, first.url])
      })
  )

  it.scoped(
    "A cluster the question for missing events is not answered at all if the balancer never comes back to that server",
    () =>
      Effect.gen(function* () {
        const [first, second] = yield* Servers
        yield* table("event_log", replicated("a"), [first, second])
        const url = yield* Cluster.balancer((seen) => {
          if (isSync(seen)) return { to: first.url, instead: CAUGHT_UP }
          return { to: isQuestion(seen) ? second.url : first.url }
        })
        const error = yield* Effect.flip(Effect.provide(missing, configured({ CLICKHOUSE_URL: url, ...CLUSTER })))
        expect(error).toMatchObject({
          errorClass: "in-doubt",
          settled: false,
          reason: expect.stringContaining("leads to another server with each request")
        })
      })
  )

  it.scoped("A cluster whether an insert still runs is asked of every server of the cluster", () =>
    Effect.gen(function* () {
      const [first, second] = yield* Servers
      yield* table("event_log", PLAIN, [second])
      const token = "10000000-0000-4000-8000-000000000001"
      const slowly = Stream.concat(rows, Stream.execute(Effect.never))
      const insert = Effect.flatMap(ClickHouseSink.ClickHouseSink, (sink) =>
        sink.insert({ token, eventCount: 1, rows: slowly })
      )
      const running = yield* Effect.forkScoped(
        Effect.provide(insert, configured({ CLICKHOUSE_URL: second.url, CLICKHOUSE_REQUEST_TIMEOUT: "1 minute" }))
      )
      const asked = (variables: Readonly<Record<string, string>>) =>
        Effect.provide(isInserting(token), configured({ CLICKHOUSE_URL: first.url, ...variables }))
      yield* until(asked(CLUSTER), (is) => is)
      expect(yield* asked({})).toBe(false)
      yield* Fiber.interrupt(running)
      yield* until(asked(CLUSTER), (is) => !is)
    })
  )

  it.scoped(
    "A cluster whether an insert still runs stays open while one of them does not answer, also where the user's profile would skip it",
    () =>
      Effect.gen(function* () {
        const [first] = yield* Servers
        const url = new URL(first.url)
        url.searchParams.set("clickhouse_setting_skip_unavailable_shards", "1")
        const error = yield* Effect.flip(
          Effect.provide(isInserting("nobody's"), configured({ CLICKHOUSE_URL: url.href, CLICKHOUSE_CLUSTER: "half" }))
        )
        expect(error).toMatchObject({ errorClass: "in-doubt", settled: false })
      })
  )

  {
    /** What is sent, by somebody whose ClickHouse answers so. */
    const migrated = (
      cluster: string,
      answer: { readonly status: number; readonly body: string },
      database = "Atomic"
    ) =>
      Effect.gen(function* () {
        const seen: Array<Cluster.Seen> = []
        const url = yield* Cluster.balancer((request) => {
          if (request.body.includes("system.databases")) {
            return { status: 200, body: JSON.stringify({ meta: [], data: [[database]], rows: 1 }) }
          }
          seen.push(request)
          return answer
        })
        const variables = { CLICKHOUSE_URL: url, CLICKHOUSE_CLUSTER: cluster }
        const result = yield* Effect.either(
          Effect.provide(
            Effect.flatMap(Config.clickHouse, Migrations.clickHouse),
            Layer.merge(
              configured(variables),
              Layer.setConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(variables))))
            )
          )
        )
        return {
          result,
          request: Arr.headNonEmpty(
            yield* Effect.filterOrDie(Effect.succeed(seen), Arr.isNonEmptyArray, () => "nothing")
          )
        }
      })

    for (const cluster of ["events", "it's $& {odd} \\", "events' ENGINE = Null --"]) {
      it.scoped(`A cluster migrate creates the table on every host of a cluster called ${cluster}, replicated`, () =>
        Effect.gen(function* () {
          const [first] = yield* Servers
          const { request, result } = yield* migrated(cluster, { status: 200, body: "" })
          expect(result._tag).toBe("Right")
          // ClickHouse's own parser says how it reads the statement.
          const [read] = yield* Effect.flatMap(ClickHouse, (clickHouse) =>
            clickHouse.query("SELECT formatQuery({statement:String}), {cluster:String}", {
              statement: request.body,
              cluster
            })
          ).pipe(Effect.provide(configured({ CLICKHOUSE_URL: first.url })))
          const statement = String(read?.[0])
          const name = /ON CLUSTER (?:`((?:[^`\\]|\\.)*)`|(\w+))/.exec(statement)
          expect((name?.[1] ?? name?.[2])?.replaceAll(/\\(.)/g, "$1")).toBe(cluster)
          expect(statement).toContain("ENGINE = ReplicatedMergeTree\n")
          expect(statement).toMatch(/\breplicated_deduplication_window = 10000\b/)
          expect(statement).toContain("replicated_deduplication_window_seconds = 604800")
          expect(request.url.searchParams.get("distributed_ddl_output_mode")).toBe("throw")
        })
      )
    }

    it.scoped("A cluster migrate leaves ON CLUSTER out in a database that replicates its tables by itself", () =>
      Effect.gen(function* () {
        const { request } = yield* migrated("events", { status: 200, body: "" }, "Replicated")
        expect(request.body).not.toContain("ON CLUSTER")
        expect(request.body).toContain("ENGINE = ReplicatedMergeTree")
      })
    )

    it.scoped("A cluster migrate says to run it again when a host of the cluster is away", () =>
      Effect.gen(function* () {
        const body =
          "Code: 159. DB::Exception: Distributed DDL task /clickhouse/task_queue/ddl/query-0000000000 is not finished on 1 of 2 hosts. (TIMEOUT_EXCEEDED)"
        const { request, result } = yield* migrated("events", { status: 500, body })
        expect(result).toMatchObject({
          left: {
            reason: expect.stringMatching(
              /Not every host of cluster events .*run "clickhouse-outbox migrate" again.*1 of 2/
            )
          }
        })
        // ClickHouse says so before the request's own limit of two minutes, whose error would not name the hosts.
        expect(Number(request.url.searchParams.get("distributed_ddl_task_timeout"))).toBeLessThan(120)
      })
    )

    it.scoped(
      "A cluster migrate gives a plain table both kinds of window, as one statement makes both kinds of table",
      () =>
        Effect.gen(function* () {
          const [first] = yield* Servers
          yield* Effect.addFinalizer(() => Cluster.send(first.url, "DROP TABLE event_log SYNC"))
          yield* Effect.gen(function* () {
            yield* Migrations.clickHouse({ table: "event_log" })
            yield* check
            const [made] = yield* Effect.flatMap(ClickHouse, (clickHouse) =>
              clickHouse.query("SELECT engine_full FROM system.tables WHERE name = 'event_log'")
            )
            expect(String(made?.[0])).toMatch(
              /^MergeTree .*non_replicated_deduplication_window = 10000, replicated_ded/
            )
          }).pipe(Effect.provide(configured({ CLICKHOUSE_URL: first.url })))
        })
    )
  }
})

const EVENT_ID = EventId.make("00000000-0000-4000-8000-00000000000a")

/** In the place of the wait for a replica, which the engine in the library cannot end well. It begins the session too. */
const CAUGHT_UP = "SELECT 1"

/** Enough of a row for ClickHouse to list the insert as running. */
const rows = Stream.make(
  Buffer.from(
    `${["tested", "2026-01-01 00:00:00", "test", JSON.stringify({ text: "x".repeat(4_000) }), "1", "00000000-0000-4000-8000-00000000000b", ""].join("\t")}\n`
  )
)
