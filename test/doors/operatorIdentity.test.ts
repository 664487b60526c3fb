/** Who uses the operator API: whom it knows by name, what they may do, and what the audit trail says of them. */
import * as FileSystem from "@effect/platform/FileSystem"
import * as NodeContext from "@effect/platform-node/NodeContext"
import { expect, layer } from "@effect/vitest"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Config from "../../src/Config.ts"
import * as Event from "../../src/Event.ts"
import type { Role } from "../../src/internal/callers.ts"
import { Api } from "../../src/OperatorServer.ts"
import * as Cli from "../support/cli.ts"
import * as Environment from "../support/environment.ts"
import * as Failures from "../support/failures.ts"
import { type Answered, asker, named, services, TOKEN, tokenOf } from "../support/operator.ts"

const live = Layer.provideMerge(services, Layer.merge(Environment.layer(), NodeContext.layer))

const lineOf = (name: string, role: Role) => {
  const { sha256 } = named(name, role)
  return `${name} ${role} ${sha256}`
}

/** What these variables come to, on any free port. */
const configured = (variables: Readonly<Record<string, string>>) =>
  ConfigProvider.fromMap(new Map(Object.entries({ OUTBOX_HTTP_PORT: "0", ...variables }))).load(Config.http)

const serve = (variables: Readonly<Record<string, string>>) => Effect.flatMap(configured(variables), asker)

const NAMED = { OUTBOX_HTTP_TOKENS: `${lineOf("ada", "operator")}\n${lineOf("bob", "reader")}` }

const bearer = (token: string) => ({ authorization: `Bearer ${token}` })

const sessionOf = ({ json }: Answered) => ({ name: Object(json).name, role: Object(json).role })

/** Pauses and resumes with these headers, and answers who the audit trail says it was. */
const actorOf = (ask: Effect.Effect.Success<ReturnType<typeof asker>>, headers: Readonly<Record<string, string>>) =>
  Effect.gen(function* () {
    const paused = yield* ask("POST /api/relay/pause", { headers, body: '{"reason":"test"}' })
    expect(paused.status).toBe(200)
    expect((yield* ask("POST /api/relay/resume", { headers })).status).toBe(200)
    const audit = Object((yield* ask("GET /api/audit?limit=2", { headers })).json)
    const [first, second] = audit.entries
    expect(first.actor).toBe(second.actor)
    expect(Object(paused.json).paused.paused_by).toBe(first.actor)
    return first.actor
  })

layer(live, { excludeTestServices: true })((it) => {
  it.scoped(
    "Who uses the operator API with a token of their own is in the audit trail by the token's name, whatever X-Operator says",
    () =>
      Effect.gen(function* () {
        const ask = yield* serve(NAMED)
        const ada = bearer(tokenOf("ada"))
        expect(sessionOf(yield* ask("GET /api/session", { headers: ada }))).toEqual({ name: "ada", role: "operator" })
        expect(yield* actorOf(ask, ada)).toBe("ada")
        expect(yield* actorOf(ask, { ...ada, "x-operator": "grace" })).toBe("ada")
        const { failureId } = yield* Failures.make([Event.make({ eventType: "identity_tested", eventContext: {} })])
        yield* ask(`POST /api/failures/${failureId}/discard`, {
          headers: { ...ada, "x-operator": "grace" },
          body: '{"note":"test"}'
        })
        const audit = yield* ask(`GET /api/failures/${failureId}/audit`, { headers: ada })
        expect(Object(audit.json).entries).toMatchObject([{ actor: "ada", action: "discard" }])
      })
  )

  it.scoped(
    "Who uses the operator API with a token of their own is let in by no other: not by a hash, a name, or a token that is not configured",
    () =>
      Effect.gen(function* () {
        const ask = yield* serve(NAMED)
        const [, , hash = ""] = lineOf("ada", "operator").split(" ")
        for (const token of [hash, "ada", tokenOf("Ada"), tokenOf("eve"), ""]) {
          expect({ token, status: (yield* ask("GET /api/status", { headers: bearer(token) })).status }).toEqual({
            token,
            status: 401
          })
        }
        expect((yield* ask("GET /api/status")).status).toBe(401)
      })
  )

  it.scoped(
    "Who uses the operator API with a token of their own looks at everything and changes nothing as a reader",
    () =>
      Effect.gen(function* () {
        const ask = yield* serve(NAMED)
        const headers = bearer(tokenOf("bob"))
        expect(sessionOf(yield* ask("GET /api/session", { headers }))).toEqual({ name: "bob", role: "reader" })
        const endpoints = Object.values(Api.groups).flatMap((group) => Object.values(group.endpoints))
        const audit = yield* ask("GET /api/audit", { headers })
        for (const { method, path } of endpoints) {
          const request = `${method} ${path.replaceAll(/:\w+/g, "1")}`
          const { json, status } = yield* ask(request, { headers, ...(method !== "GET" && { body: "{}" }) })
          if (method === "GET")
            expect({ request, status }).toEqual({ request, status: expect.not.toBeOneOf([401, 403]) })
          else {
            const type = "urn:clickhouse-outbox:readers-only-read"
            expect({ request, status, json }).toMatchObject({ request, status: 403, json: { type } })
          }
        }
        expect((yield* ask("GET /api/audit", { headers })).text).toBe(audit.text)
      })
  )

  it.scoped(
    "Who uses the operator API with a token of their own has it from the command token, which shows it once and configures it by its hash, also in a file",
    () =>
      Effect.gen(function* () {
        const fs = yield* FileSystem.FileSystem
        const [ada, bob] = yield* Effect.all([
          Cli.run(["token", "ada", "--role", "operator"]),
          Cli.run(["token", "bob"], { variables: { DATABASE_URL: undefined, CLICKHOUSE_URL: undefined } })
        ])
        const partsOf = ({ stdout }: Cli.Ended) => {
          const [token = ""] = /^outbox_[\w-]{43}$/m.exec(stdout) ?? []
          const [line = ""] = /^\w+ \w+ [0-9a-f]{64}$/m.exec(stdout) ?? []
          return { token, line }
        }
        expect(partsOf(ada).line).toMatch(/^ada operator /)
        expect(partsOf(bob).line).toMatch(/^bob reader /)
        const file = yield* fs.makeTempFileScoped()
        yield* fs.writeFileString(file, `# Who looks at it from the outside.\n\n${partsOf(bob).line}\n`)
        const ask = yield* serve({ OUTBOX_HTTP_TOKENS: partsOf(ada).line, OUTBOX_HTTP_TOKENS_FILE: file })
        const names = yield* Effect.forEach([ada, bob], (ended) =>
          Effect.map(ask("GET /api/session", { headers: bearer(partsOf(ended).token) }), sessionOf)
        )
        expect(names).toEqual([
          { name: "ada", role: "operator" },
          { name: "bob", role: "reader" }
        ])
      })
  )

  it.scoped(
    "Who uses the operator API with the one token for all is an operator without a name, in the audit trail as X-Operator says",
    () =>
      Effect.gen(function* () {
        const ask = yield* serve({ OUTBOX_HTTP_TOKEN: TOKEN })
        const headers = bearer(TOKEN)
        expect(sessionOf(yield* ask("GET /api/session", { headers }))).toEqual({ name: null, role: "operator" })
        expect(yield* actorOf(ask, { ...headers, "x-operator": "grace" })).toBe("grace")
        expect(yield* actorOf(ask, headers)).toBe("api")
      })
  )

  it.scoped(
    "Who uses the operator API with the one token for all is nobody else where others have names: X-Operator cannot make it one of them",
    () =>
      Effect.gen(function* () {
        const ask = yield* serve({ ...NAMED, OUTBOX_HTTP_TOKEN: TOKEN })
        const headers = bearer(TOKEN)
        expect(sessionOf(yield* ask("GET /api/session", { headers }))).toEqual({ name: "api", role: "operator" })
        expect(yield* actorOf(ask, { ...headers, "x-operator": "ada" })).toBe("api")
        expect(yield* actorOf(ask, bearer(tokenOf("ada")))).toBe("ada")
      })
  )

  {
    const PROXY = { OUTBOX_HTTP_PROXY_ADDRESSES: "10.1.0.0/16, 127.0.0.1", OUTBOX_HTTP_PROXY_OPERATORS: "ada, grace" }
    const user = (name: string) => ({ "x-forwarded-user": name })

    it.scoped(
      "Who uses the operator API through a proxy that has them sign in is whom its header names: an operator who is named as one, and otherwise a reader",
      () =>
        Effect.gen(function* () {
          const ask = yield* serve(PROXY)
          expect(sessionOf(yield* ask("GET /api/session", { headers: user("ada") }))).toEqual({
            name: "ada",
            role: "operator"
          })
          expect(yield* actorOf(ask, { ...user("ada"), "x-operator": "grace" })).toBe("ada")
          const headers = user("eve@example.com")
          expect(sessionOf(yield* ask("GET /api/session", { headers }))).toEqual({
            name: "eve@example.com",
            role: "reader"
          })
          expect((yield* ask("POST /api/relay/resume", { headers })).status).toBe(403)
          const all = yield* serve({
            ...PROXY,
            OUTBOX_HTTP_PROXY_HEADER: "X-Auth-Request-Email",
            OUTBOX_HTTP_PROXY_OPERATORS: "*"
          })
          expect(yield* actorOf(all, { "x-auth-request-email": "eve@example.com" })).toBe("eve@example.com")
          expect((yield* all("GET /api/status", { headers: user("ada") })).status).toBe(401)
        })
    )

    it.scoped(
      "Who uses the operator API through a proxy that has them sign in is nobody if the header comes from any other address, or names none or two",
      () =>
        Effect.gen(function* () {
          const elsewhere = yield* serve({ ...PROXY, ...NAMED, OUTBOX_HTTP_PROXY_ADDRESSES: "10.1.0.0/16,::1" })
          expect((yield* elsewhere("GET /api/status", { headers: user("ada") })).status).toBe(401)
          const bob = { ...user("ada"), ...bearer(tokenOf("bob")) }
          expect(sessionOf(yield* elsewhere("GET /api/session", { headers: bob }))).toEqual({
            name: "bob",
            role: "reader"
          })
          const ask = yield* serve(PROXY)
          expect((yield* ask("GET /api/status")).status).toBe(401)
          for (const name of ["ada, eve", "", " ", "ada eve", "a".repeat(256), "ad\u00e1"]) {
            const { json, status } = yield* ask("GET /api/status", { headers: user(name) })
            expect({ name, status, json }).toMatchObject({ name, status: 401, json: { detail: expect.any(String) } })
          }
        })
    )

    it.scoped(
      "Who uses the operator API through a proxy that has them sign in is known where a socket shows the proxy's IPv4 address as one of IPv6",
      () =>
        Effect.gen(function* () {
          const ask = yield* serve({ ...PROXY, OUTBOX_HTTP_HOST: "::ffff:127.0.0.1" })
          expect((yield* ask("GET /api/status", { headers: user("ada") })).status).toBe(200)
        })
    )

    it.scoped(
      "Who uses the operator API through a proxy that has them sign in may be let in by a token as well, as a program is that signs in nowhere",
      () =>
        Effect.gen(function* () {
          const ask = yield* serve({ ...PROXY, ...NAMED })
          expect(yield* actorOf(ask, bearer(tokenOf("ada")))).toBe("ada")
          const both = { ...user("eve"), ...bearer(tokenOf("ada")) }
          expect(sessionOf(yield* ask("GET /api/session", { headers: both }))).toEqual({ name: "eve", role: "reader" })
        })
    )

    it.scoped(
      "Who uses the operator API through a proxy that has them sign in changes nothing by a page of another site, with which their browser sends the proxy's cookie",
      () =>
        Effect.gen(function* () {
          const ask = yield* serve(PROXY)
          const host = "outbox.example.com"
          const statusOf = (headers: Readonly<Record<string, string>>) =>
            Effect.map(
              ask("POST /api/relay/resume", { headers: { host, ...user("ada"), ...headers } }),
              ({ status }) => status
            )
          const NOT_PAUSED = 409
          for (const headers of [{}, { "sec-fetch-site": "same-origin" }, { origin: `https://${host}` }]) {
            expect({ headers, status: yield* statusOf(headers) }).toEqual({ headers, status: NOT_PAUSED })
          }
          for (const headers of [
            { "sec-fetch-site": "cross-site" },
            { "sec-fetch-site": "same-site" },
            { "sec-fetch-site": "none" },
            { origin: "https://evil.example.com" },
            { origin: "null" },
            { origin: `https://${host}`, "sec-fetch-site": "cross-site" }
          ]) {
            expect({ headers, status: yield* statusOf(headers) }).toEqual({ headers, status: 403 })
          }
        })
    )
  }

  it.scoped(
    "Who uses the operator API listens beyond loopback once it knows somebody, and probes and metrics need no name",
    () =>
      Effect.gen(function* () {
        for (const variables of [NAMED, { OUTBOX_HTTP_PROXY_ADDRESSES: "10.1.0.1" }]) {
          const ask = yield* serve(variables)
          // By a name that is not this machine's, which a server that knows nobody turns down.
          const headers = { host: "outbox.example.com" }
          expect((yield* ask("GET /api/status", { headers })).status).toBe(401)
          for (const path of ["/healthz", "/version", "/metrics"]) {
            expect((yield* ask(`GET ${path}`, { headers })).status).toBe(200)
          }
        }
        expect(Option.isNone((yield* configured({})).proxy)).toBe(true)
      })
  )
})
