/** The server of the operator API: whom it lets in, and that nothing which happens to it stops the relay. */
import * as Http from "node:http"
import * as Net from "node:net"
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import { BatchFailures } from "../../src/BatchFailures.ts"
import * as Event from "../../src/Event.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import { OutboxStore } from "../../src/OutboxStore.ts"
import * as Cli from "../support/cli.ts"
import * as Environment from "../support/environment.ts"
import * as Failures from "../support/failures.ts"
import { listen } from "../support/listen.ts"
import { ask, asker, config, services, start, TOKEN, withToken } from "../support/operator.ts"
import * as Proxy from "../support/proxy.ts"
import { BOUND, until } from "../support/wait.ts"

const live = Layer.provideMerge(services, Environment.layer())

const event = Event.make({ eventType: "server_tested", eventContext: {} })

/** What is logged from Info on, in lines. */
const logged = <A, E, R>(effect: (lines: ReadonlyArray<string>) => Effect.Effect<A, E, R>) => {
  const lines: Array<string> = []
  const logger = Logger.make<unknown, void>(({ cause, message }) => void lines.push(`${String(message)} ${cause._tag}`))
  return effect(lines).pipe(
    Effect.provide(Layer.merge(Logger.replace(Logger.defaultLogger, logger), Logger.minimumLogLevel(LogLevel.Info)))
  )
}

/** Services with connections of their own, until the scope closes. */
const another = (overrides: Readonly<Record<string, string>>) =>
  Layer.build(Layer.provideMerge(services, Environment.another(overrides)))

/** A raw connection that has sent this, until the scope closes. */
const connect = (url: string, sent: string) =>
  Effect.acquireRelease(
    Effect.async<Net.Socket>((resume) => {
      const { hostname, port } = new URL(url)
      const socket = Net.connect({ host: hostname, port: Number(port), allowHalfOpen: true })
      socket.on("error", () => {}).resume()
      socket.once("connect", () => socket.write(sent, () => resume(Effect.succeed(socket))))
    }),
    (socket) => Effect.sync(() => socket.destroy())
  )

/** What is answered to a path exactly as it is written: a URL would be tidied up before it is sent. */
const sent = (url: string, method: string, path: string, headers: Record<string, string>) =>
  Effect.async<{ readonly status: number | undefined; readonly text: string }>((resume) => {
    const { hostname, port } = new URL(url)
    const request = Http.request({ hostname, port, path, method, headers, agent: false }, (response) => {
      let text = ""
      response.setEncoding("utf8").on("data", (chunk) => {
        text += chunk
      })
      response.on("end", () => resume(Effect.succeed({ status: response.statusCode, text })))
    })
    request.end()
  })

const parsed = (text: string): { readonly type?: unknown } => {
  try {
    return Object(JSON.parse(text))
  } catch {
    return {}
  }
}

/** A port that somebody else has, until the scope closes. */
const takePort = Effect.map(
  Effect.suspend(() => listen(Net.createServer())),
  String
)

layer(live, { excludeTestServices: true })((it) => {
  {
    it.scoped(
      "The operator API with a token lets in whoever sends it, under whatever name and from whatever page",
      () =>
        Effect.gen(function* () {
          const ask = yield* asker(withToken)
          const authorization = `Bearer ${TOKEN}`
          const answered = yield* ask("GET /api/relay", {
            headers: { authorization, host: "outbox.example.com", origin: "https://console.example.com" }
          })
          expect(answered.status).toBe(200)
          const lower = yield* ask("GET /api/relay", { headers: { authorization: `bearer ${TOKEN}` } })
          expect(lower.status).toBe(200)
        })
    )

    const wrong: Record<string, Record<string, string>> = {
      none: {},
      "a wrong one": { authorization: "Bearer wrong" },
      "one that begins like it": { authorization: `Bearer ${TOKEN.slice(0, -1)}` },
      "one that goes on": { authorization: `Bearer ${TOKEN}x` },
      "an empty one": { authorization: "Bearer " },
      "another scheme": { authorization: `Basic ${Buffer.from(`api:${TOKEN}`).toString("base64")}` },
      "seven other characters before it": { authorization: `Digest ${TOKEN}` },
      "two spaces before it": { authorization: `Bearer  ${TOKEN}` },
      "the token alone": { authorization: TOKEN }
    }
    for (const [what, headers] of Object.entries(wrong)) {
      it.scoped(`The operator API with a token refuses ${what}, before it looks at anything else`, () =>
        Effect.gen(function* () {
          const ask = yield* asker(withToken)
          for (const request of ["GET /api/failures?limit=0", "POST /api/relay/pause", "GET /api/failures/abc"]) {
            const answered = yield* ask(request, { headers })
            expect(answered).toMatchObject({
              status: 401,
              headers: { "www-authenticate": "Bearer", "content-type": "application/problem+json" },
              json: { detail: expect.stringContaining("OUTBOX_HTTP_TOKEN") }
            })
          }
          expect((yield* ask("GET /docs", { headers })).status).toBe(200)
          expect((yield* ask("GET /openapi.json", { headers })).status).toBe(200)
        })
      )
    }

    it.scoped("The operator API with a token tells it to nobody: it is in no span and no log", () =>
      logged((lines) =>
        Effect.gen(function* () {
          const spans: Array<Tracer.Span> = []
          const native = yield* Effect.tracer
          const tracer = Tracer.make({
            context: native.context,
            span: (...options) => {
              const span = native.span(...options)
              spans.push(span)
              return span
            }
          })
          const ask = yield* Effect.provide(asker(withToken), Layer.setTracer(tracer))
          yield* ask("GET /api/failures", { headers: { authorization: `Bearer ${TOKEN}` } })
          yield* ask("GET /api/failures", { headers: { authorization: `Bearer x${TOKEN}` } })
          const attributes = spans
            .map(({ attributes, name }) => `${name} ${JSON.stringify([...attributes])}`)
            .join("\n")
          expect(attributes).toContain("http.server GET")
          expect(attributes).toContain("BatchFailures.list")
          expect(attributes).not.toContain(TOKEN)
          expect(lines.join("\n")).toMatch(/listens on http:\/\/127\.0\.0\.1:\d+ /)
          expect(lines.join("\n")).not.toContain(TOKEN)
        })
      )
    )
  }

  it.scoped("The operator API without a token listens on loopback whatever it was told, and says why", () =>
    logged((lines) =>
      Effect.gen(function* () {
        expect(yield* start({ ...config, host: "0.0.0.0" })).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/)
        const said = lines.join("\n")
        expect(said).toContain("on 127.0.0.1 and not on 0.0.0.0")
        expect(said).toContain("set OUTBOX_HTTP_TOKEN")
        expect(said).toMatch(/listens on http:\/\/127\.0\.0\.1:\d+, and asks for no token/)
      })
    )
  )

  it.scoped("The operator API without a token listens on IPv6's loopback address", () =>
    Effect.gen(function* () {
      const url = yield* start({ ...config, host: "::1" })
      expect(url).toMatch(/^http:\/\/\[::1\]:\d+$/)
      expect((yield* ask(url, "GET /api/relay")).status).toBe(200)
    })
  )

  it.scoped(
    "The operator API without a token answers what comes from this machine only, as a browser on it may be led here by others",
    () =>
      Effect.gen(function* () {
        const url = yield* start()
        const { host, port } = new URL(url)
        const statusOf = (headers: Record<string, string>, request = "POST /api/relay/resume") =>
          Effect.map(ask(url, request, { headers }), ({ status }) => status)
        const NOT_PAUSED = 409
        for (const headers of [
          { host },
          { host: `localhost:${port}` },
          { host: "LOCALHOST" },
          { host: "127.0.0.2:80" },
          { host: `[::1]:${port}` },
          { host, origin: `http://${host}` },
          { host, "sec-fetch-site": "same-origin" }
        ]) {
          expect({ headers, status: yield* statusOf(headers) }).toEqual({ headers, status: NOT_PAUSED })
        }
        // Of an address that somebody typed, which reads and changes nothing.
        expect(yield* statusOf({ host, "sec-fetch-site": "none" }, "GET /api/relay")).toBe(200)
        for (const headers of [
          { host: "evil.example.com" },
          { host: "127.0.0.1.evil.example.com" },
          { host: `localhost.evil.example.com:${port}` },
          { host: "0.0.0.0" },
          { host: "evil.example.com@127.0.0.1" },
          { host: "127.0.0.1:80@evil.example.com" },
          { host: "0x7f.1" },
          { host: "127.1" },
          { host: "2130706433" },
          { host: "127.0.0.1 " + "evil.example.com" },
          { host: "127.0.0.1/" },
          { host, "sec-fetch-site": "none" },
          { host, origin: `http://evil.example.com@${host}` },
          { host, origin: "http://evil.example.com" },
          { host, origin: "http://localhost:3000" },
          { host, origin: `https://${host}` },
          { host, origin: "null" },
          { host: "evil.example.com", origin: "http://evil.example.com" },
          { host, "sec-fetch-site": "cross-site" },
          { host, "sec-fetch-site": "same-site" },
          { host, origin: `http://${host}`, "sec-fetch-site": "cross-site" }
        ]) {
          expect({ headers, status: yield* statusOf(headers) }).toEqual({ headers, status: 403 })
        }
        // As of an <img> on somebody's page, which sends no Origin.
        const image = { "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image" }
        expect((yield* ask(url, "GET /api/status", { headers: image })).status).toBe(403)
        for (const path of ["/docs", "/openapi.json", "/nope"]) {
          expect((yield* ask(url, `GET ${path}`, { headers: { host: "evil.example.com" } })).json).toMatchObject({
            type: "urn:clickhouse-outbox:forbidden",
            detail: expect.stringContaining("Set OUTBOX_HTTP_TOKEN")
          })
        }
      })
  )

  it.scoped(
    "The operator API takes a path in one way of writing it so that a proxy's rule for /api holds: every other way is not found, by GET and by POST",
    () =>
      Effect.gen(function* () {
        const url = yield* start(withToken)
        const headers = { authorization: `Bearer ${TOKEN}`, accept: "text/html,*/*;q=0.8" }
        const other = (path: string) => [
          path.replace(/[a-z]/, (letter) => letter.toUpperCase()),
          path.toUpperCase(),
          `/${path}`,
          `${path}/`,
          `${path}//`,
          path.replace(/(?<=.)\//, "//"),
          path.replace(/(?<=.)\//, "/./"),
          path.replace(/[a-z]/, (letter) => `%${letter.charCodeAt(0).toString(16)}`),
          `/x/..${path}`,
          `/.${path}`,
          `/%2e${path}`,
          `/\\${path}`,
          `${path}%20`,
          `${path};x`,
          `${path}%00`,
          `http://127.0.0.1${path}`
        ]
        const PATHS = ["/api/status", "/docs", "/openapi.json", "/healthz", "/readyz", "/version", "/metrics"]
        for (const path of PATHS) {
          const expected = path === "/readyz" ? 503 : 200
          expect({ path, status: (yield* sent(url, "GET", path, headers)).status }).toEqual({ path, status: expected })
        }
        for (const [method, path] of [
          ...PATHS.flatMap((path) => other(path).map((written) => ["GET", written] as const)),
          ...other("/api/relay/resume").map((written) => ["POST", written] as const)
        ]) {
          if (PATHS.includes(path)) continue
          const { status, text } = yield* sent(url, method, path, headers)
          expect({ method, path, status, type: parsed(text).type }).toEqual({
            method,
            path,
            status: 404,
            type: "urn:clickhouse-outbox:no-such-endpoint"
          })
        }
      })
  )

  it.scoped(
    "The operator API lets a page of its answers load and run nothing, and that of /docs only what is in it",
    () =>
      Effect.gen(function* () {
        const ask = yield* asker(withToken)
        const headers = { authorization: `Bearer ${TOKEN}` }
        for (const path of ["/api/status", "/api/nope", "/nope", "/healthz", "/metrics", "/openapi.json"]) {
          const answered = yield* ask(`GET ${path}`, { headers })
          expect({ path, policy: answered.headers["content-security-policy"] }).toEqual({
            path,
            policy: "default-src 'none'; frame-ancestors 'none'"
          })
        }
        const docs = yield* ask("GET /docs", { headers })
        expect(docs.headers["content-security-policy"]).toMatch(/^default-src 'self'; .*frame-ancestors 'none'$/)
      })
  )

  it.scoped("The operator API says 503 while Postgres does not answer, and no more than that; then it goes on", () =>
    Effect.gen(function* () {
      const { DATABASE_URL = "" } = yield* Environment.Environment
      const proxy = yield* Proxy.make(DATABASE_URL)
      const url = yield* Effect.provide(start(), yield* another({ DATABASE_URL: proxy.url }))
      yield* proxy.freeze(true)
      yield* proxy.cut
      const answered = yield* ask(url, "GET /api/failures").pipe(
        Effect.zipLeft(Effect.zipRight(Effect.sleep("300 millis"), proxy.cut), { concurrent: true })
      )
      expect(answered).toMatchObject({
        status: 503,
        headers: { "retry-after": "5" },
        json: {
          type: "urn:clickhouse-outbox:postgres-unavailable",
          detail: expect.stringContaining("Trying again is safe")
        }
      })
      for (const secret of [new URL(proxy.url).port, "127.0.0.1", "postgres:"])
        expect(answered.text).not.toContain(secret)
      yield* proxy.freeze(false)
      expect((yield* ask(url, "GET /api/failures")).status).toBe(200)
    })
  )

  it.scoped("The operator API says 500 to a bug, and shows nothing of it", () =>
    logged((lines) =>
      Effect.gen(function* () {
        const failures = yield* BatchFailures
        const ask = yield* asker().pipe(
          Effect.provideService(BatchFailures, { ...failures, list: () => Effect.dieMessage("a secret") })
        )
        const answered = yield* ask("GET /api/failures")
        expect(answered).toMatchObject({ status: 500, json: { type: "urn:clickhouse-outbox:bug" } })
        expect(answered.text).not.toContain("secret")
        expect(lines).toContain("A bug in the operator API Die")
      })
    )
  )

  it.scoped("The operator API leaves connections to the relay, however many requests wait", () =>
    Effect.gen(function* () {
      const { failureId } = yield* Failures.make([event])
      const other = yield* Effect.flatMap(SqlClient.SqlClient, (sql) => sql.reserve)
      yield* other.executeRaw("BEGIN", [])
      yield* other.executeRaw(`SELECT FROM outbox.batch_failure WHERE id = ${failureId} FOR UPDATE`, [])
      const { store, url } = yield* Effect.provide(
        Effect.all({ store: OutboxStore, url: start() }),
        yield* another({ DATABASE_MAX_CONNECTIONS: "3", OUTBOX_WORKERS: "1" })
      )
      const presses = yield* Effect.all(
        Array.from({ length: 20 }, () => ask(url, `POST /api/failures/${failureId}/replay`)),
        { concurrency: "unbounded" }
      ).pipe(Effect.fork)
      yield* Effect.sleep("300 millis")
      yield* Effect.timeout(store.lease("test"), BOUND)
      yield* other.executeRaw("COMMIT", [])
      expect((yield* presses).filter(({ status }) => status === 200)).toHaveLength(1)
    })
  )

  it.scoped("The operator API has two large bodies in memory at a time, while small ones need not wait", () =>
    Effect.gen(function* () {
      const { eventId, failureId } = yield* Failures.make([event])
      const path = `/api/failures/${failureId}/events/${eventId}`
      const url = yield* start()
      const correct = (note: string) => ask(url, `PATCH ${path}`, { body: JSON.stringify({ event_context: { note } }) })
      const HEAD = `PATCH ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n`
      const slow = yield* Effect.forEach(
        [`${HEAD}Content-Length: 65537\r\n\r\n{`, `${HEAD}Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n`],
        (sent) => connect(url, sent)
      )
      yield* Effect.sleep("200 millis")
      const large = yield* Effect.fork(correct("x".repeat(65_536)))
      yield* Effect.sleep("300 millis")
      expect((yield* correct("small")).status).toBe(200)
      expect(Option.isNone(yield* Fiber.poll(large))).toBe(true)
      slow[0]?.destroy()
      expect((yield* large).status).toBe(200)
    })
  )

  it.effect("The operator API ends at once, whatever its clients have begun", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const url = yield* Scope.extend(start(), scope)
      const HEAD = "GET /api/relay HTTP/1.1\r\nHost: localhost\r\n"
      const sockets = yield* Effect.forEach(
        [
          `${HEAD}\r\n`,
          HEAD,
          `${HEAD}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n`,
          "POST /api/relay/pause HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"
        ],
        (sent) => connect(url, sent)
      )
      const told: Array<string> = []
      for (const socket of sockets) socket.on("data", (bytes) => told.push(bytes.toString()))
      yield* Effect.sleep("100 millis")
      yield* Effect.timeout(Scope.close(scope, Exit.void), BOUND)
      yield* until(
        Effect.sync(() => sockets.map(({ readableEnded, destroyed }) => readableEnded || destroyed)),
        (ended) => ended.every((ended) => ended)
      )
      // None was waited for until it had been too slow.
      expect(told.filter((answer) => answer.startsWith("HTTP/1.1 408"))).toEqual([])
    }).pipe(Effect.scoped)
  )

  it.scoped("The operator API outlives clients that break off, in whatever they had begun", () =>
    Effect.gen(function* () {
      const url = yield* start()
      for (const sent of [
        "GET /api/relay HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        "POST /api/relay/pause HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{",
        "POST /api/relay/pause HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n{",
        "GET / HTTP/1.1\r\nHost",
        "\x16\x03\x01\x02\x00"
      ]) {
        const socket = yield* connect(url, sent)
        socket.resetAndDestroy()
      }
      yield* Effect.sleep("100 millis")
      expect((yield* ask(url, "GET /api/relay")).json).toEqual({ paused: null })
    })
  )

  it.scoped(
    "The operator API is served by the relay, which delivers while the port is taken, and ends at SIGTERM",
    () =>
      Effect.gen(function* () {
        const taken = yield* Scope.make()
        const port = yield* Scope.extend(takePort, taken)
        const relay = yield* Cli.start(["relay"], {
          variables: { OUTBOX_HTTP_PORT: port, OUTBOX_HTTP_TOKEN: TOKEN, LOG_FORMAT: "pretty" }
        })
        yield* relay.said(`cannot listen on 127.0.0.1, port ${port}, and tries again every 5 seconds`)
        yield* relay.said("OUTBOX_HTTP_PORT sets another port")
        yield* EventPublisher.publish(event)
        yield* relay.said("Delivered a batch")
        yield* Scope.close(taken, Exit.void)
        const url = `http://127.0.0.1:${port}`
        yield* relay.said(`The operator API listens on ${url}`)
        expect((yield* ask(url, "GET /api/status")).status).toBe(401)
        const headers = { authorization: `Bearer ${TOKEN}` }
        expect((yield* ask(url, "GET /api/status", { headers })).status).toBe(200)
        yield* connect(url, "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        yield* Effect.sleep("200 millis")
        yield* relay.signal("SIGTERM")
        const ended = yield* Effect.timeout(relay.ended, BOUND)
        expect(ended).toMatchObject({ code: 0, stdout: "" })
        expect(ended.stderr).not.toContain(TOKEN)
        expect(ended.stderr.match(/cannot listen/g)).toHaveLength(1)
      }).pipe(Effect.provide(live))
  )

  it.scoped("The operator API is not to take the connection that leases are renewed on: there has to be one more", () =>
    Effect.gen(function* () {
      const variables = { DATABASE_MAX_CONNECTIONS: "3", OUTBOX_WORKERS: "1", OUTBOX_HTTP_PORT: "0" }
      expect(yield* Cli.run(["relay"], { variables })).toEqual(
        Cli.failed(
          "DATABASE_MAX_CONNECTIONS: must be at least 4 with OUTBOX_WORKERS at 1 and the operator API, which OUTBOX_HTTP_PORT=off turns off\n"
        )
      )
      const relay = yield* Cli.start(["relay"], { variables: { ...variables, DATABASE_MAX_CONNECTIONS: "4" } })
      yield* relay.said("The operator API listens")
    }).pipe(Effect.provide(live))
  )

  it.scoped("The operator API is not served where its port is off", () =>
    Effect.gen(function* () {
      const relay = yield* Cli.start(["relay"], {
        variables: { OUTBOX_HTTP_PORT: "off", DATABASE_MAX_CONNECTIONS: "3", OUTBOX_WORKERS: "1" }
      })
      yield* EventPublisher.publish(event)
      yield* relay.said("Delivered a batch")
      yield* relay.signal("SIGTERM")
      expect((yield* relay.ended).stderr).not.toContain("The operator API")
    }).pipe(Effect.provide(live))
  )
})
