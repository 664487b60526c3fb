/** Whatever the servers, their users and what is in between are set to: every event arrives once and as it was. */
import * as Http from "node:http"
import { expect, it } from "@effect/vitest"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { ClickHouse } from "../../src/ClickHouse.ts"
import { ClickHouseSink } from "../../src/ClickHouseSink.ts"
import * as Config from "../../src/Config.ts"
import * as Event from "../../src/Event.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import * as Migrations from "../../src/Migrations.ts"
import { sweep } from "../chaos/settings/sweep.ts"
import * as Cluster from "../support/cluster.ts"
import * as Environment from "../support/environment.ts"
import { counts } from "../support/eventLog.ts"
import { listen } from "../support/listen.ts"
import { batches } from "../support/manifest.ts"
import * as Profiles from "../support/profiles.ts"
import * as Proxy from "../support/proxy.ts"
import { drain } from "../support/relay.ts"
import * as Stubs from "../support/stubs.ts"

const publish = (events: number) =>
  EventPublisher.publishAll(Arr.makeBy(events, (n) => Event.make({ eventType: "set", eventContext: { n } })))

const EVENT_ID = Event.EventId.make("0198f0a0-0000-7000-8000-000000000001")

const { batch } = Stubs.lease

/** As Postgres writes 1e30. */
const REFUSED = `1${"0".repeat(30)}`

const inserts = ({ url }: Cluster.Seen) => url.searchParams.has("insert_deduplication_token")

it.live(
  "Settings of a user's profile or a role change nothing, or are refused with a reason: a sample of them",
  () =>
    Effect.gen(function* () {
      const tried = yield* sweep({ lanes: 4, sample: 40, together: 8 })
      expect(tried.length).toBeGreaterThan(60)
      expect(tried.filter(({ outcome }) => outcome.is === "wrong")).toEqual([])
    }),
  400_000
)

it.live("Settings of a server's time zone do not shift times, also in a column that has none", () =>
  Effect.gen(function* () {
    const { url } = yield* Profiles.make({}, { timezone: "America/New_York" })
    yield* Effect.gen(function* () {
      const clickHouse = yield* ClickHouse
      yield* clickHouse.command("CREATE DATABASE zoned")
      yield* clickHouse.command(`
          CREATE TABLE zoned.event_log (
            event_type String, event_date_time DateTime64(6), environment String, event_context JSON,
            metadata_version UInt64, event_id UUID, trace_id String
          )
          ENGINE = MergeTree ORDER BY event_type SETTINGS non_replicated_deduplication_window = 100`)
      const event = Event.make({ eventType: "zoned", eventContext: {} })
      yield* EventPublisher.publish({ ...event, eventDateTime: new Date("2026-07-01T12:00:00.123Z") })
      yield* Effect.provide(drain, Environment.another({ CLICKHOUSE_DATABASE: "zoned" }))
      expect(
        yield* clickHouse.query("SELECT toUnixTimestamp64Micro(event_date_time)::Float64 FROM zoned.event_log")
      ).toEqual([[Date.UTC(2026, 6, 1, 12, 0, 0, 123) * 1_000]])
    }).pipe(Effect.provide(Environment.another({ CLICKHOUSE_URL: url, CLICKHOUSE_DATABASE: "default" })))
  }).pipe(Environment.fresh())
)

it.live(
  "Whatever ClickHouse answers, it is an error, which leaves open what became of a batch, and never the end of the relay",
  () =>
    Effect.gen(function* () {
      const answers = [
        [[]],
        [[null, null, null, null, null, null]],
        [["MergeTree", "MergeTree", "", "", [{ name: "limit", default: "0" }], [], 0]],
        [["1", [], []]],
        [[{ "count()": 1 }]],
        ["MergeTree"]
      ]
      let answer = ""
      const server = yield* Cluster.balancer(() => ({ status: 200, body: answer }))
      yield* Effect.gen(function* () {
        const sink = yield* ClickHouseSink
        for (const data of answers) {
          answer = JSON.stringify({ data, rows: data.length })
          for (const question of [sink.check, sink.isInserting("token"), sink.missing(batch, [EVENT_ID])]) {
            expect(yield* Effect.flip(question)).toMatchObject({ _tag: "SinkError", settled: false })
          }
        }
      }).pipe(Effect.provide(Environment.another({ CLICKHOUSE_URL: server })))
    }).pipe(Environment.fresh())
)

it.live(
  "Whatever ClickHouse answers, a profile that names the members of tuples, or has a list that is none, does not keep events from arriving",
  () =>
    Effect.gen(function* () {
      const { url } = yield* Profiles.make({
        // The last is no list of names, which would be said of the events.
        relay: {
          enable_named_columns_in_function_tuple: 1,
          input_format_null_as_default: 0,
          exclude_materialize_skip_indexes_on_insert: "0"
        }
      })
      const server = { CLICKHOUSE_URL: url, CLICKHOUSE_DATABASE: "default" }
      yield* Effect.gen(function* () {
        yield* Effect.flatMap(Config.clickHouse, Migrations.clickHouse)
        yield* publish(3)
        yield* drain
        expect(yield* counts).toEqual({ rows: 3, events: 3 })
      }).pipe(Effect.provide(Environment.another({ ...server, CLICKHOUSE_USER: "relay" })))
    }).pipe(Environment.fresh())
)

it.live(
  "A table whose rows a policy may hide is refused, and says what to do: hidden events would look as if they were missing, and be sent again",
  () =>
    Effect.gen(function* () {
      const { url } = yield* Profiles.make({ relay: {} }, {}, { relay: "event_type = 'other'" })
      const server = { CLICKHOUSE_URL: url, CLICKHOUSE_DATABASE: "default" }
      const migrate = Effect.flatMap(Config.clickHouse, Migrations.clickHouse)
      yield* Effect.provide(migrate, Environment.another(server))
      const error = yield* Effect.flatMap(ClickHouseSink, ({ check }) => Effect.flip(check)).pipe(
        Effect.provide(Environment.another({ ...server, CLICKHOUSE_USER: "relay" }))
      )
      expect(error).toMatchObject({ errorClass: "configuration", settled: true })
      expect(error.message).toContain("row policies")
      expect(error.message).toContain("Drop them")
    }).pipe(Environment.fresh())
)

it.live(
  "An insert is a success only if ClickHouse says that it has taken every row: where it has taken fewer, those that it lacks are sent again, and none twice",
  () =>
    Effect.gen(function* () {
      const { CLICKHOUSE_URL = "" } = yield* Environment.Environment
      let cut = false
      const balancer = yield* Cluster.balancer((seen) => {
        if (cut || !inserts(seen)) return { to: CLICKHOUSE_URL }
        cut = true
        return { to: CLICKHOUSE_URL, instead: seen.body.slice(seen.body.indexOf("\n") + 1) }
      })
      yield* publish(10)
      yield* Effect.provide(drain, Environment.another({ CLICKHOUSE_URL: balancer }))
      expect(cut).toBe(true)
      expect(yield* counts).toEqual({ rows: 10, events: 10 })
      expect(yield* batches).toMatchObject([{ state: "delivered", attempts: 1, repaired: 1 }])
    }).pipe(Environment.fresh())
)

it.live(
  "An insert is a success only if ClickHouse says that it has taken every row: what was not taken and is refused becomes a failure, and what was taken is not sent again",
  () =>
    Effect.gen(function* () {
      const { CLICKHOUSE_URL = "" } = yield* Environment.Environment
      let skipped = false
      const balancer = yield* Cluster.balancer((seen) => {
        if (skipped || !inserts(seen)) return { to: CLICKHOUSE_URL }
        skipped = true
        // As a setting that skips bad rows would.
        return {
          to: CLICKHOUSE_URL,
          instead: seen.body
            .split("\n")
            .filter((line) => !line.includes(REFUSED))
            .join("\n")
        }
      })
      yield* EventPublisher.publishAll(
        ["1", REFUSED, "3"].map((n) => Event.make({ eventType: "set", eventContext: { n: Number(n) } }))
      )
      yield* Effect.provide(drain, Environment.another({ CLICKHOUSE_URL: balancer }))
      expect(skipped).toBe(true)
      expect(yield* counts).toEqual({ rows: 2, events: 2 })
      expect((yield* batches).map(({ event_count, state }) => [event_count, state])).toEqual([
        [3, "delivered"],
        [1, "failed"]
      ])
    }).pipe(Environment.fresh())
)

it.live(
  "An insert is a success only if ClickHouse says that it has taken every row: where a proxy drops the header that says so, it is asked which it has",
  () =>
    Effect.gen(function* () {
      const { CLICKHOUSE_URL = "" } = yield* Environment.Environment
      let questions = 0
      const balancer = yield* Cluster.balancer(
        (seen) => {
          if (seen.body.includes("groupArray(id)")) questions++
          return { to: CLICKHOUSE_URL }
        },
        ["x-clickhouse-summary"]
      )
      yield* publish(10)
      yield* Effect.provide(drain, Environment.another({ CLICKHOUSE_URL: balancer }))
      expect(questions).toBe(1)
      expect(yield* counts).toEqual({ rows: 10, events: 10 })
      expect(yield* batches).toMatchObject([{ state: "delivered", attempts: 1, repaired: null }])
    }).pipe(Environment.fresh())
)

it.live(
  "An insert is a success only if ClickHouse says that it has taken every row: where materialized views write rows too, it is asked: what they write may make up for what was skipped",
  () =>
    Effect.gen(function* () {
      const { CLICKHOUSE_URL = "" } = yield* Environment.Environment
      const clickHouse = yield* ClickHouse
      yield* clickHouse.command(
        "CREATE MATERIALIZED VIEW sums ENGINE = MergeTree ORDER BY () AS SELECT count() AS events FROM event_log"
      )
      let cut = false
      const balancer = yield* Cluster.balancer((seen) => {
        if (cut || !inserts(seen)) return { to: CLICKHOUSE_URL }
        cut = true
        return { to: CLICKHOUSE_URL, instead: seen.body.slice(seen.body.indexOf("\n") + 1) }
      })
      yield* publish(3)
      yield* Effect.provide(drain, Environment.another({ CLICKHOUSE_URL: balancer }))
      expect(cut).toBe(true)
      expect(yield* counts).toEqual({ rows: 3, events: 3 })
      expect(yield* batches).toMatchObject([{ state: "delivered", attempts: 1, repaired: 1 }])
    }).pipe(Environment.fresh())
)

it.live(
  "An insert is a success only if ClickHouse says that it has taken every row: and where such a proxy, or a view, leaves open whether what was lacking has arrived, it is asked again",
  () =>
    Effect.gen(function* () {
      const { CLICKHOUSE_URL = "" } = yield* Environment.Environment
      let cut = false
      const balancer = yield* Cluster.balancer(
        (seen) => {
          if (cut || !inserts(seen)) return { to: CLICKHOUSE_URL }
          cut = true
          return { to: CLICKHOUSE_URL, instead: seen.body.slice(seen.body.indexOf("\n") + 1) }
        },
        ["x-clickhouse-summary"]
      )
      yield* publish(3)
      yield* Effect.provide(drain, Environment.another({ CLICKHOUSE_URL: balancer }))
      expect(yield* counts).toEqual({ rows: 3, events: 3 })
      expect(yield* batches).toMatchObject([{ state: "delivered", attempts: 1, repaired: 1 }])
    }).pipe(Environment.fresh())
)

{
  const answers: ReadonlyArray<readonly [status: number, headers: Http.OutgoingHttpHeaders, body: string]> = [
    [404, {}, "no such page"],
    [404, {}, ""],
    [301, { location: "https://elsewhere.example/" }, ""],
    [307, { location: "https://elsewhere.example/" }, "moved"],
    [200, {}, "<html>Welcome</html>"]
  ]
  for (const [status, headers, body] of answers) {
    it.live(
      `What is not ClickHouse's answer (HTTP status ${status} ${body || "without a word"}) says that CLICKHOUSE_URL is wrong, with that status`,
      () =>
        Effect.gen(function* () {
          const server = Http.createServer((request, response) => {
            request.resume().once("end", () => response.writeHead(status, headers).end(body))
          })
          const port = yield* listen(server)
          const error = yield* Effect.flatMap(ClickHouseSink, ({ check }) => Effect.flip(check)).pipe(
            Effect.provide(Environment.another({ CLICKHOUSE_URL: `http://127.0.0.1:${port}` }))
          )
          // Behind a yes there may be ClickHouse's, which a proxy writes anew.
          expect(error).toMatchObject({ errorClass: "configuration", settled: status !== 200 })
          expect(error.message).toMatch(new RegExp(`HTTP status ${status}(: \\w|: <|\\. CLICKHOUSE_URL)`))
          expect(error.message).toContain("CLICKHOUSE_URL")
        }).pipe(Environment.fresh())
    )
  }

  it.live(
    "What is not ClickHouse's answer but a yes without ClickHouse's numbers is one, whatever headers come with it",
    () =>
      Effect.gen(function* () {
        const server = Http.createServer((request, response) => {
          request.resume().once("end", () => response.writeHead(200, { location: "https://elsewhere.example/" }).end())
        })
        const url = `http://127.0.0.1:${yield* listen(server)}`
        yield* Effect.flatMap(ClickHouse, ({ insert }) =>
          insert({ statement: "INSERT INTO a", parameters: {}, settings: {}, queryId: "1", rows: Stream.empty })
        ).pipe(Effect.provide(Environment.another({ CLICKHOUSE_URL: url })))
      }).pipe(Environment.fresh())
  )

  it.live(
    "What is not ClickHouse's answer but a yes that a proxy writes anew does not say that nothing was written",
    () =>
      Effect.gen(function* () {
        const { CLICKHOUSE_URL = "" } = yield* Environment.Environment
        const server = Http.createServer((request, response) => {
          const upstream = Http.request(new URL(request.url ?? "/", CLICKHOUSE_URL), {
            method: request.method,
            headers: request.headers
          })
          upstream.on("response", (answer) => answer.resume().once("end", () => response.writeHead(200).end("OK")))
          request.pipe(upstream)
        })
        const url = `http://127.0.0.1:${yield* listen(server)}`
        const error = yield* Effect.flatMap(ClickHouse, ({ insert }) =>
          Effect.flip(
            insert({
              statement: "INSERT INTO event_log (event_type) FORMAT TabSeparated",
              parameters: {},
              settings: {},
              queryId: "rewritten",
              rows: Stream.make(Buffer.from("a\n"))
            })
          )
        ).pipe(Effect.provide(Environment.another({ CLICKHOUSE_URL: url })))
        expect(error).toMatchObject({ errorClass: "configuration", settled: false })
        expect((yield* counts).rows).toBe(1)
      }).pipe(Environment.fresh())
  )

  it.live("What is not ClickHouse's answer but a part of one leaves the question open, and says so", () =>
    Effect.gen(function* () {
      const { CLICKHOUSE_URL = "" } = yield* Environment.Environment
      const proxy = yield* Proxy.make(CLICKHOUSE_URL)
      yield* proxy.cutNext(({ bytes, from }) => {
        const end = bytes.indexOf('"statistics"')
        return from === "client" || end === -1 ? undefined : end
      })
      const error = yield* Effect.flatMap(ClickHouse, ({ query }) => Effect.flip(query("SELECT 1"))).pipe(
        Effect.provide(Environment.another({ CLICKHOUSE_URL: proxy.url }))
      )
      expect(error).toMatchObject({ errorClass: "in-doubt", settled: false })
      expect(error.message).toContain("ClickHouse's answer broke off")
    }).pipe(Environment.fresh())
  )
}
