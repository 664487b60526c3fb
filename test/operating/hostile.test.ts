/** Hostile values and hostile clients: a value is never a statement, and no client stops a relay. */
import * as Net from "node:net"
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { ClickHouse } from "../../src/ClickHouse.ts"
import * as Event from "../../src/Event.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import * as Migrations from "../../src/Migrations.ts"
import * as Cli from "../support/cli.ts"
import * as Environment from "../support/environment.ts"
import { counts } from "../support/eventLog.ts"
import * as Failures from "../support/failures.ts"
import { ask, asker, issuesOf, services, start } from "../support/operator.ts"
import * as Proxy from "../support/proxy.ts"
import * as Relay from "../support/relay.ts"
import { until } from "../support/wait.ts"

/** What ends a text, a name, a comment or a parameter in one of the two languages. */
const HOSTILE = [
  "'; DROP TABLE outbox.audit; --",
  "x' OR '1' = '1",
  '"; DROP SCHEMA outbox CASCADE; --',
  "`; DROP TABLE event_log; --",
  "\\'; SELECT 1; --",
  "{table:Identifier} $1 $$ %s ?",
  "*/ DELETE FROM event_log; /*"
]

const isName = (text: string) => !/['\\]/.test(text)

const event = Event.make({ eventType: "hostile_tested", eventContext: {} })

layer(Environment.layer(), { excludeTestServices: true })("A value is never a statement", (it) => {
  it.effect(
    "A value is never a statement of ClickHouse: a table's name with what its client would escape is refused",
    () =>
      Effect.gen(function* () {
        const refused = HOSTILE.filter((text) => !isName(text))
        expect(refused).toHaveLength(3)
        for (const table of [...refused, "event\nlog"]) {
          expect(yield* Cli.run(["migrate"], { variables: { CLICKHOUSE_TABLE: table } })).toEqual(
            Cli.failed("CLICKHOUSE_TABLE: must contain no apostrophe, backslash or control character\n")
          )
        }
      })
  )

  for (const table of HOSTILE.filter(isName)) {
    it.effect(`A value is never a statement of ClickHouse: a table called ${table}`, () =>
      Effect.gen(function* () {
        const clickHouse = yield* ClickHouse
        yield* EventPublisher.publish(event)
        yield* Relay.drain
        const tables = "SELECT name FROM system.tables WHERE database = currentDatabase()"
        expect(yield* clickHouse.query(tables)).toEqual([[table]])
        expect(yield* clickHouse.query("SELECT event_type FROM {table:Identifier}", { table })).toEqual([
          ["hostile_tested"]
        ])
      }).pipe(Environment.fresh({ CLICKHOUSE_TABLE: table }))
    )
  }

  it.scoped("A value is never a statement of ClickHouse: the name of a database, or of a cluster", () =>
    Effect.gen(function* () {
      const clickHouse = yield* ClickHouse
      const name = '`"; DROP DATABASE default; --'
      yield* Effect.acquireRelease(clickHouse.command("CREATE DATABASE {name:Identifier}", { name }), () =>
        Effect.orDie(clickHouse.command("DROP DATABASE {name:Identifier}", { name }))
      )
      const inDatabase = Environment.another({ CLICKHOUSE_DATABASE: name })
      const table = Effect.flatMap(ClickHouse, (clickHouse) =>
        Effect.zipRight(
          Migrations.clickHouse({ table: "event_log" }),
          clickHouse.query("SELECT database, name FROM system.tables WHERE database = currentDatabase()")
        )
      )
      expect(yield* Effect.provide(table, inDatabase)).toEqual([[name, "event_log"]])
      for (const cluster of [...HOSTILE, "$ENGINE", "$&"]) {
        const refused = yield* Effect.flip(Migrations.clickHouse({ table: "other", cluster: Option.some(cluster) }))
        // Braces are ClickHouse's own, for a macro of the server: it names the one that it has not.
        const names = cluster.includes("{") ? "No macro 'table:Identifier'" : `Requested cluster '${cluster}' not found`
        expect(refused.reason).toContain(names)
      }
      expect(yield* clickHouse.query("SELECT name FROM system.tables WHERE database = currentDatabase()")).toEqual([
        ["event_log"]
      ])
    })
  )

  it.scoped("A value is never a statement of ClickHouse: a type of events that it is asked for after a doubt", () =>
    Effect.gen(function* () {
      const { CLICKHOUSE_URL = "" } = yield* Environment.Environment
      const proxy = yield* Proxy.make(CLICKHOUSE_URL)
      yield* proxy.cutNext(({ from, request }) => (from === "server" && /INSERT/.test(request) ? 0 : undefined))
      yield* Relay.start({ CLICKHOUSE_URL: proxy.url })
      yield* EventPublisher.publishAll(HOSTILE.map((eventType) => Event.make({ eventType, eventContext: {} })))
      yield* until(proxy.wasCut, (was) => was)
      const sql = yield* SqlClient.SqlClient
      const attempts = sql`SELECT attempts, state FROM outbox.batch`
      yield* until(attempts, ([batch]) => batch?.state === "delivered")
      expect(yield* attempts).toEqual([{ attempts: 2, state: "delivered" }])
      const clickHouse = yield* ClickHouse
      const types = yield* clickHouse.query("SELECT event_type FROM event_log")
      expect(types.map(([type]) => String(type)).sort()).toEqual([...HOSTILE].sort())
    }).pipe(Environment.fresh({ OUTBOX_LINGER: "10 millis" }))
  )

  it.effect("A value is never a statement of Postgres: what operators write and ask for, over HTTP", () =>
    Effect.gen(function* () {
      const ask = yield* asker()
      const { eventId, failureId } = yield* Failures.make([event])
      const json = (body: object) => ({ body: JSON.stringify(body) })
      for (const text of HOSTILE) {
        const operator = { headers: { "x-operator": text } }
        const paused = yield* ask("POST /api/relay/pause", { ...json({ reason: text }), ...operator })
        expect(paused).toMatchObject({ status: 200 })
        expect((yield* ask("GET /api/relay")).json).toMatchObject({ paused: { reason: text, paused_by: text } })
        expect((yield* ask("POST /api/relay/resume", operator)).status).toBe(200)
        const type = encodeURIComponent(text)
        expect((yield* ask(`GET /api/failures?event_type=${type}`)).json).toMatchObject({ failures: [] })
        const path = `/api/failures/${failureId}/events/${eventId}`
        const correction = { event_type: text, event_context: { [text]: text } }
        expect((yield* ask(`PATCH ${path}`, { ...json(correction), ...operator })).json).toMatchObject(correction)
        expect((yield* ask(`GET /api/failures?event_type=${type}`)).json).toMatchObject({
          failures: [{ id: failureId }]
        })
        for (const wrong of [
          `GET /api/failures?after=${type}`,
          `GET /api/failures?limit=${type}`,
          `GET /api/failures?code=${type}`,
          `GET /api/failures?state=${type}`,
          `GET /api/failures?since=${type}`,
          `GET /api/failures?${type}=1`,
          `GET /api/batches?state=${type}`,
          `GET /api/overview?minutes=${type}`,
          `GET /api/overview?step=${type}`,
          `GET /api/overview?${type}=1`,
          `GET /api/event-log?since=${type}`,
          `GET /api/event-log?until=${type}`,
          `GET /api/event-log?before=${type}`,
          `GET /api/event-log?limit=${type}`,
          `GET /api/event-log?${type}=1`,
          `GET /api/event-log/names?since=${type}`,
          `GET /api/event-log/${eventId}?since=${type}`
        ]) {
          const { status } = yield* ask(wrong)
          expect({ wrong, status }).toEqual({ wrong, status: 400 })
        }
        for (const wrong of [
          `GET /api/failures/${type}`,
          `GET /api/failures/${failureId}/events/${type}`,
          `GET /api/batches/${type}`,
          `GET /api/events/${type}`,
          `GET /api/event-log/${type}`
        ]) {
          const { status } = yield* ask(wrong)
          expect({ wrong, status }).toEqual({ wrong, status: 404 })
        }
      }
      const sql = yield* SqlClient.SqlClient
      const actors = yield* sql<{ actor: string }>`SELECT DISTINCT actor FROM outbox.audit WHERE action = 'correct'`
      expect(actors.map(({ actor }) => actor).sort()).toEqual([...HOSTILE].sort())
    }).pipe(Effect.scoped, Effect.provide(services))
  )

  it.effect("A value is never a statement of Postgres: what operators write and ask for, on the command line", () =>
    Effect.gen(function* () {
      const text = HOSTILE.join(" ")
      expect(yield* Cli.run(["pause", "--reason", text])).toMatchObject({ code: 0 })
      expect(yield* Cli.run(["status", "--json"])).toMatchObject({
        stdout: expect.stringContaining(JSON.stringify(text))
      })
      expect(yield* Cli.run(["resume"])).toMatchObject({ code: 0 })
      expect(yield* Cli.run(["failures", "list", "--type", text])).toMatchObject({ code: 0 })
      for (const args of [
        ["failures", "list", "--code", "117 OR true"],
        ["failures", "list", "--since", "now(); DROP TABLE outbox.audit"],
        ["failures", "show", "1; DROP TABLE outbox.audit"],
        ["where", "' OR true --"]
      ]) {
        expect(yield* Cli.run(args)).toMatchObject({ code: 1 })
      }
      const line = { event_type: text, environment: text, event_context: { [text]: text } }
      expect(yield* Cli.run(["publish", "-"], { stdin: JSON.stringify(line) })).toMatchObject({ code: 0 })
      const sql = yield* SqlClient.SqlClient
      expect(
        yield* sql`SELECT event_type, environment, event_context FROM outbox.event WHERE event_type = ${text}`
      ).toEqual([line])
    })
  )
})

/** What a client does after what it has sent. */
interface Manner {
  readonly drip?: string
  readonly reads?: boolean
}

/** A raw connection that has sent this, and sends `drip` again and again, until the scope closes. */
const connect = (url: string, sent: string, { drip = "", reads = true }: Manner = {}) =>
  Effect.acquireRelease(
    Effect.async<{ readonly socket: Net.Socket; readonly timer: NodeJS.Timeout }>((resume) => {
      const { hostname, port } = new URL(url)
      const socket = Net.connect({ host: hostname, port: Number(port) })
      const timer = setInterval(() => drip !== "" && socket.writable && socket.write(drip), 200)
      socket.on("error", () => {})
      if (reads) socket.resume()
      else socket.pause()
      const connected = () => resume(Effect.succeed({ socket, timer }))
      socket.once("connect", () => socket.write(sent, connected)).once("close", connected)
    }),
    ({ socket, timer }) =>
      Effect.sync(() => {
        clearInterval(timer)
        socket.destroy()
      })
  )

const POST = "POST /api/relay/pause HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"

const GET = "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"

const CLIENTS: Arr.NonEmptyReadonlyArray<readonly [sent: string, manner?: Manner]> = [
  [""],
  ["GET / HT"],
  ["GET / HTTP/1.1\r\nHost: localhost\r\nX-A: ", { drip: "a" }],
  ["GET / HTTP/1.1\r\nHost: localhost\r\n", { drip: "X-B: b\r\n" }],
  [`${POST}Content-Length: 60000\r\n\r\n{`, { drip: " " }],
  [`${POST}Transfer-Encoding: chunked\r\n\r\n`, { drip: "1\r\n \r\n" }],
  [`${POST}Transfer-Encoding: chunked\r\n\r\n`, { drip: `8000\r\n${" ".repeat(32_768)}\r\n` }],
  [`${POST}Content-Length: 99999999999\r\n\r\n${" ".repeat(65_536)}`, { drip: " " }],
  [GET],
  [GET.repeat(500), { reads: false }],
  ["\x16\x03\x01\x02\x00\x01\x00"]
]

layer(Environment.layer(), { excludeTestServices: true })("A client of the operator API", (it) => {
  it.scoped(
    "A client of the operator API does not stop the relay, nor keep out others: a thousand of them, of whatever kind",
    () =>
      Effect.gen(function* () {
        const relay = yield* Cli.start(["relay"], { variables: { OUTBOX_HTTP_PORT: "0", OUTBOX_LINGER: "20 millis" } })
        const url = yield* relay.url
        yield* until(ask(url, "GET /readyz"), ({ status }) => status === 200)
        const hostile = Arr.take(Arr.flatten(Arr.replicate(CLIENTS, 100)), 1_000)
        yield* Effect.forEach(hostile, ([sent, manner]) => connect(url, sent, manner), { concurrency: 100 })

        for (const path of ["/healthz", "/readyz", "/metrics", "/api/status"]) {
          const answered = yield* ask(url, `GET ${path}`)
          expect({ path, status: answered.status }).toEqual({ path, status: 200 })
        }
        yield* EventPublisher.publishAll(Arr.makeBy(1_000, () => event))
        yield* until(counts, ({ rows }) => rows === 1_000)
        yield* relay.signal("SIGTERM")
        expect(yield* relay.ended).toMatchObject({ code: 0 })
      })
  )

  /** A server whose ClickHouse is behind a proxy, and how many requests that has seen. */
  const behindProxy = Effect.gen(function* () {
    const { CLICKHOUSE_URL = "" } = yield* Environment.Environment
    const proxy = yield* Proxy.make(CLICKHOUSE_URL)
    let requests = 0
    yield* proxy.watch(({ from, sent }) => {
      if (from === "client" && sent === 0) requests++
      return undefined
    })
    const context = yield* Layer.build(Layer.provideMerge(services, Environment.another({ CLICKHOUSE_URL: proxy.url })))
    const url = yield* Effect.provide(start(), context)
    return { proxy, url, requests: Effect.sync(() => requests) }
  })

  it.scoped(
    "A client of the operator API keeps nobody waiting by a flood, and once it is gone ClickHouse is not asked what it had asked for",
    () =>
      Effect.gen(function* () {
        const { proxy, requests, url } = yield* behindProxy
        yield* proxy.freeze(true)
        const flood = yield* Effect.forEach(
          Arr.makeBy(100, () => "GET /api/event-log HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(20)),
          (sent) => connect(url, sent),
          { concurrency: 100 }
        )
        let answered = ""
        for (const { socket } of flood) {
          socket.on("data", (bytes: Buffer) => {
            answered += bytes.toString("latin1")
          })
        }
        for (const path of ["/healthz", "/version", "/metrics", "/api/status"]) {
          const { status } = yield* ask(url, `GET ${path}`)
          expect({ path, status }).toEqual({ path, status: 200 })
        }
        // Some wait, and the others are told to come back.
        yield* until(
          Effect.sync(() => answered),
          (text) => text.includes("urn:clickhouse-outbox:overloaded")
        )
        expect(answered).toMatch(/HTTP\/1\.1 503 .*retry-after: 5/s)
        for (const { socket } of flood) socket.destroy()
        yield* proxy.freeze(false)
        const after = yield* ask(url, "GET /api/event-log")
        expect(after.status).toBe(200)
        // Two at a time were asked before the flood was gone.
        expect(yield* requests).toBeLessThan(10)
      })
  )

  it.scoped(
    "A client of the operator API waits for its turn no longer than ten seconds, and is told that trying again is safe",
    () =>
      Effect.gen(function* () {
        const { proxy, url } = yield* behindProxy
        yield* proxy.freeze(true)
        const first = yield* Effect.raceAll(Arr.makeBy(3, () => ask(url, "GET /api/event-log")))
        expect(first).toMatchObject({
          status: 503,
          headers: { "retry-after": "5" },
          json: { type: "urn:clickhouse-outbox:overloaded", detail: expect.stringContaining("Nothing was done") }
        })
      })
  )

  it.scoped("A client of the operator API has its connection closed where it is slow, or sends what is too large", () =>
    Effect.gen(function* () {
      const relay = yield* Cli.start(["relay"], { variables: { OUTBOX_HTTP_PORT: "0" } })
      const url = yield* relay.url
      const answers = (sent: string, manner?: Manner) =>
        Effect.flatMap(connect(url, sent, manner), ({ socket }) =>
          Effect.async<string>((resume) => {
            let text = ""
            socket.on("data", (bytes: Buffer) => {
              text += bytes.toString("latin1")
            })
            socket.once("close", () => resume(Effect.succeed(text)))
          })
        )
      const [slow, long, many] = yield* Effect.all(
        [
          answers("GET / HTTP/1.1\r\nHost: localhost\r\nX-A: ", { drip: "a" }),
          answers(`GET / HTTP/1.1\r\nHost: localhost\r\nX-A: ${"a".repeat(20_000)}\r\n\r\n`),
          answers("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1_500))
        ],
        { concurrency: "unbounded" }
      )
      expect(slow).toContain("HTTP/1.1 408 ")
      expect(long).toContain("HTTP/1.1 431 ")
      expect(many.match(/HTTP\/1\.1 200 /g)).toHaveLength(100)
    })
  )

  {
    const nested = (open: string, close: string, levels: number) => open.repeat(levels) + close.repeat(levels)
    const keys = (count: number) => Arr.makeBy(count, (n) => `"${n.toString(36)}":0`).join()

    const corrections: Record<string, readonly [body: string, status: number, says: RegExp]> = {
      "arrays in arrays": [`{"event_context":{"a":${nested("[", "]", 1_001)}}}`, 400, /1002 levels/],
      "objects in objects": [`{"event_context":{"a":${nested('{"a":', "}", 1_001)}}}`, 400, /1002 levels/],
      "thirty thousand arrays": [`{"event_context":{"a":${nested("[", "]", 30_000)}}}`, 400, /1002 levels/],
      "a million arrays that never end": ["[".repeat(1_000_000), 400, /1002 levels/],
      "600,000 keys": [`{"event_context":{${keys(600_000)}}}`, 413, /1114112 bytes at most/],
      "600,000 keys that no event has": [`{${keys(600_000)}}`, 413, /1114112 bytes at most/],
      "600,000 elements": [`{"event_context":{"a":[${"0,".repeat(600_000)}0]}}`, 413, /at most/],
      "a text of 2 MiB": [`{"event_context":{"a":"${"x".repeat(2 ** 21)}"}}`, 413, /1114112 bytes at most/]
    }
    for (const [what, [body, status, says]] of Object.entries(corrections)) {
      it.effect(
        `A client of the operator API that sends JSON which is work to read is told so before any of it is parsed: ${what}`,
        () =>
          Effect.gen(function* () {
            const { eventId, failureId } = yield* Failures.make([event])
            const ask = yield* asker()
            const answered = yield* ask(`PATCH /api/failures/${failureId}/events/${eventId}`, { body })
            expect(answered).toMatchObject({ status, headers: { "content-type": "application/problem+json" } })
            expect(answered.text).toMatch(says)
          }).pipe(Effect.scoped, Effect.provide(services))
      )
    }

    it.effect(
      "A client of the operator API that sends JSON which is work to read is told so by every endpoint, and never that it has found a bug",
      () =>
        Effect.gen(function* () {
          const { failureId } = yield* Failures.make([event])
          const ask = yield* asker()
          const bodies: Arr.NonEmptyReadonlyArray<readonly [body: string, status: number]> = [
            [`{"reason":${nested("[", "]", 30_000)}}`, 400],
            [nested("[", "]", 30_000), 400],
            [`{"ids":[${"0,".repeat(30_000)}0]}`, 413],
            [`{${keys(5_000)}}`, 413],
            [`{${keys(900)}}`, 400]
          ]
          for (const path of ["relay/pause", "failures/replay", "failures/discard", `failures/${failureId}/resolve`]) {
            for (const [body, status] of bodies) {
              const answered = yield* ask(`POST /api/${path}`, { body })
              expect({ path, status: answered.status }).toEqual({ path, status })
              expect(issuesOf(answered).length).toBeLessThanOrEqual(100)
            }
          }
        }).pipe(Effect.scoped, Effect.provide(services))
    )

    it.effect(
      "A client of the operator API that sends JSON which is work to read is not kept from what an event may be: a context of nearly 1 MiB, escaped to six, and one of 1,000 levels",
      () =>
        Effect.gen(function* () {
          const { eventId, failureId } = yield* Failures.make([event])
          const ask = yield* asker()
          const correct = (body: string) => ask(`PATCH /api/failures/${failureId}/events/${eventId}`, { body })
          const LENGTH = 2 ** 20 - 100
          const escaped = yield* correct(`{"event_context": {"a": "${"\\u0061".repeat(LENGTH)}"}}`)
          expect(escaped).toMatchObject({ status: 200, json: { event_context: { a: "a".repeat(LENGTH) } } })
          const spaced = yield* correct(`{"event_context": {"a": [${" ".repeat(2 ** 21)}1]}}`)
          expect(spaced).toMatchObject({ status: 200, json: { event_context: { a: [1] } } })
          expect((yield* correct(`{"event_context": {"a": [${"0,".repeat(340_000)}0]}}`)).status).toBe(200)
          expect((yield* correct(`{"event_context": {"a": ["]}", "\\"[{", ${nested("[", "]", 900)}]}}`)).status).toBe(
            200
          )
          expect((yield* correct(`{"event_context":{"a":${nested("[", "]", 1_000)}}}`)).status).toBe(200)
        }).pipe(Effect.scoped, Effect.provide(services))
    )
  }

  it.scoped("A client of the operator API writes no line of the log, however it is read", () =>
    Effect.gen(function* () {
      const relay = yield* Cli.start(["relay"], { variables: { OUTBOX_HTTP_PORT: "0", LOG_FORMAT: "pretty" } })
      const url = yield* relay.url
      yield* until(ask(url, "GET /readyz"), ({ status }) => status === 200)
      const forged = "[00:00:00.000] INFO (#0): The relay has stopped"
      const reason = `\u001b[2J\u009b1m\r\n${forged}\n${forged}\u2028${forged}`
      expect((yield* ask(url, "POST /api/relay/pause", { body: JSON.stringify({ reason }) })).status).toBe(200)
      yield* relay.said("Relays are paused")
      yield* relay.signal("SIGTERM")
      const { stderr } = yield* relay.ended
      expect(stderr).toContain(forged)
      expect(stderr.split("\n").filter((line) => line.startsWith("[00:00:00.000]"))).toEqual([])
      expect(stderr.replaceAll("\n", "")).not.toMatch(/[\p{Cc}\u2028]/u)
    })
  )
})
