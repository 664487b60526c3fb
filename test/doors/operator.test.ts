/** The operator API: what operators can do over HTTP, and what they are told when they cannot. */
import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import * as HttpApiClient from "@effect/platform/HttpApiClient"
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Event from "../../src/Event.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import { Api, Problem } from "../../src/OperatorServer.ts"
import * as Environment from "../support/environment.ts"
import { eventLog } from "../support/eventLog.ts"
import * as Failures from "../support/failures.ts"
import { type Asked, asker, issuesOf, services, start, TOKEN, withToken } from "../support/operator.ts"
import { drain } from "../support/relay.ts"

const live = Layer.provideMerge(services, Environment.layer())

/** On databases of its own. */
const fresh = <A, E, R>(test: Effect.Effect<A, E, R>) => Effect.provide(Effect.scoped(test), live)

const event = (eventContext: Event.JsonObject = {}, eventType = "operator_tested") =>
  Event.make({ eventType, eventContext })

const STRANGER = "01890a5d-ac96-774b-bcce-b302099a8057"

layer(live, { excludeTestServices: true })((it) => {
  it.scoped("The operator API leads from an event that ClickHouse refused to its row in ClickHouse", () =>
    Effect.gen(function* () {
      const ask = yield* asker()
      const eventId = yield* EventPublisher.publish(event({ n: 1e30, name: "Ada" }))
      yield* drain
      expect((yield* ask("GET /api/status")).status).toBe(200)
      const listed = yield* ask("GET /api/failures?state=open&class=data&event_type=operator_tested")
      expect(listed.json).toMatchObject({ failures: [{ code: 117, event_types: ["operator_tested"] }], next: null })
      const { id } = Object(listed.json).failures[0]
      expect((yield* ask(`GET /api/failures/${id}`)).json).toMatchObject({
        id,
        state: "open",
        message: expect.stringContaining("(at row 1)"),
        events: [{ event_id: eventId, event_context: { name: "Ada" } }],
        next: null
      })
      expect((yield* ask(`GET /api/events/${eventId}`)).json).toMatchObject({ state: "failed" })
      const corrected = yield* ask(`PATCH /api/failures/${id}/events/${eventId}`, {
        body: '{"event_context": {"n": 9007199254740993, "name": "Ada"}}',
        headers: { "x-operator": "ada" }
      })
      expect(corrected).toMatchObject({ status: 200, json: { event_id: eventId } })
      const replayed = yield* ask(`POST /api/failures/${id}/replay`, { headers: { "x-operator": "ada" } })
      expect(replayed.json).toEqual({ failures: [id], events: 1 })
      expect((yield* ask(`GET /api/failures/arrivals?ids=${id}`)).json).toEqual({ pending: 1, delivered: 0, failed: 0 })
      yield* drain
      expect(yield* eventLog).toMatchObject([{ eventId, eventContext: { name: "Ada" } }])
      expect((yield* ask(`GET /api/events/${eventId}`)).json).toMatchObject({ state: "delivered" })
      const audit = yield* ask(`GET /api/failures/${id}/audit`)
      expect(audit.json).toMatchObject({
        entries: [
          { action: "replay", actor: "ada" },
          { action: "correct", actor: "ada", event_id: eventId }
        ],
        next: null
      })
      expect(audit.text).toContain('"after":{"event_context": {"n": 9007199254740993, "name": "Ada"}}')
    }).pipe(fresh)
  )

  const NUMBERS = '{"a": 9007199254740993, "b": 123456789012345678901234567890, "c": 0.10000000000000000000001}'

  it.scoped("The operator API keeps every digit, in and out", () =>
    Effect.gen(function* () {
      const ask = yield* asker()
      const sql = yield* SqlClient.SqlClient
      const { eventId, failureId } = yield* Failures.make([event()])
      const body = `{"metadata_version": 9223372036854775807, "event_context": ${NUMBERS}}`
      const path = `/api/failures/${failureId}/events/${eventId}`
      for (const answer of [
        yield* ask(`PATCH ${path}`, { body }),
        yield* ask(`GET ${path}`),
        yield* ask(`GET /api/failures/${failureId}`),
        yield* ask(`GET /api/failures/${failureId}/events`),
        yield* ask("GET /api/audit")
      ]) {
        expect(answer.headers["content-type"]).toBe("application/json")
        expect(answer.text).toMatch(/"metadata_version": ?9223372036854775807/)
        expect(answer.text).toContain(NUMBERS)
      }
      yield* sql`UPDATE outbox.batch_failure_event SET event_context = '{"x": 1e400}'::jsonb WHERE failure_id = ${failureId}`
      expect((yield* ask(`GET ${path}`)).text).toContain(`"event_context":{"x": 1${"0".repeat(400)}}`)
    })
  )

  it.scoped("The operator API lists page by page, nothing twice and nothing skipped while failures come in", () =>
    Effect.gen(function* () {
      const ask = yield* asker()
      yield* Effect.forEach(Arr.range(1, 120), () => Failures.make([event()]))
      const seen: Array<number> = []
      for (let next: number | null | undefined; next !== null; ) {
        const { json } = yield* ask(`GET /api/failures?limit=50${next === undefined ? "" : `&after=${next}`}`)
        const page = Object(json)
        seen.push(...page.failures.map(({ id }: { readonly id: number }) => id))
        next = page.next
        yield* Failures.make([event()])
      }
      expect(seen).toEqual(Arr.range(1, 120).reverse())
    }).pipe(fresh)
  )

  it.scoped("The operator API pages through a failure's events, and ends a page early where they are heavy", () =>
    Effect.gen(function* () {
      const ask = yield* asker()
      const weight = "x".repeat(1_000_000)
      const { eventIds, failureId } = yield* Failures.make(Arr.makeBy(25, (n) => event({ n, weight })))
      const counts: Array<number> = []
      const seen: Array<string> = []
      for (let next: number | null | undefined; next !== null; ) {
        const after = next === undefined ? "" : `&after=${next}`
        const { json } = yield* ask(`GET /api/failures/${failureId}/events?limit=20${after}`)
        const page = Object(json)
        counts.push(page.events.length)
        seen.push(...page.events.map(({ event_id }: { readonly event_id: string }) => event_id))
        next = page.next
      }
      expect(seen).toEqual(eventIds)
      expect(counts).toEqual([9, 9, 7])
      const light = yield* ask(`GET /api/failures/${failureId}/events?limit=2`)
      expect(Object(light.json).events).toHaveLength(2)
    })
  )

  it.scoped("The operator API replays once when the button is pressed five times at once", () =>
    Effect.gen(function* () {
      const ask = yield* asker()
      const { failureId } = yield* Failures.make([event(), event()])
      const presses = yield* Effect.all(
        Arr.makeBy(5, () => ask(`POST /api/failures/${failureId}/replay`)),
        { concurrency: "unbounded" }
      )
      expect(presses.map(({ status }) => status).sort()).toEqual([200, 409, 409, 409, 409])
      expect(presses.find(({ status }) => status === 200)?.json).toEqual({ failures: [failureId], events: 2 })
      const closed = presses.find(({ status }) => status === 409)
      expect(closed?.headers["content-type"]).toBe("application/problem+json")
      expect(closed?.json).toEqual({
        type: "urn:clickhouse-outbox:failure-closed",
        title: "The failure is closed",
        status: 409,
        detail: `Failure ${failureId} is replayed already. Nothing was changed`
      })
    })
  )

  it.scoped("The operator API replays what matches a filter, and everything only when it is told so", () =>
    Effect.gen(function* () {
      const ask = yield* asker()
      const a = yield* Failures.make([event({}, "a")])
      const both = yield* Failures.make([event({}, "b"), event({}, "a")])
      const b = yield* Failures.make([event({}, "b")])
      const replay = (body: string) => Effect.map(ask("POST /api/failures/replay", { body }), ({ json }) => json)
      expect(yield* replay('{"event_type": "a", "code": 117, "since": "2026-01-01T00:00:00+01:00"}')).toEqual({
        failures: [a.failureId, both.failureId],
        events: 3
      })
      expect(yield* replay('{"until": "2026-01-01T00:00:00Z"}')).toEqual({ failures: [], events: 0 })
      expect(yield* replay('{"all": true}')).toEqual({ failures: [b.failureId], events: 1 })
      const arrivals = `GET /api/failures/arrivals?ids=${[a, both, b].map(({ failureId }) => failureId).join()}`
      expect((yield* ask(arrivals)).json).toEqual({ pending: 4, delivered: 0, failed: 0 })
      yield* drain
      expect((yield* ask(arrivals)).json).toEqual({ pending: 0, delivered: 4, failed: 0 })
    }).pipe(fresh)
  )

  it.scoped("The operator API discards and resolves with a note, and says who did", () =>
    Effect.gen(function* () {
      const ask = yield* asker()
      const { failureId } = yield* Failures.make([event()])
      const other = yield* Failures.make([event()])
      const discarded = yield* ask(`POST /api/failures/${failureId}/discard`, { body: '{"note": " a test "}' })
      expect(discarded.json).toMatchObject({ id: failureId, state: "discarded", note: "a test" })
      const resolved = yield* ask(`POST /api/failures/${other.failureId}/resolve`, { body: '{"note": "by hand"}' })
      expect(resolved.json).toMatchObject({ state: "resolved", note: "by hand" })
      expect((yield* ask("GET /api/audit?limit=2")).json).toMatchObject({
        entries: [
          { action: "resolve", actor: "api" },
          { action: "discard", actor: "api", failure_id: failureId, after: { note: "a test" } }
        ],
        next: expect.any(Number)
      })
    })
  )

  it.scoped("The operator API pauses the relays and resumes them, each once", () =>
    Effect.gen(function* () {
      const ask = yield* asker()
      const pause = ask("POST /api/relay/pause", {
        body: '{"reason": "maintenance"}',
        headers: { "x-operator": "ada" }
      })
      const paused = { paused: { paused_by: "ada", reason: "maintenance", paused_at: expect.stringMatching(/Z$/) } }
      expect((yield* ask("GET /api/relay")).json).toEqual({ paused: null })
      expect((yield* pause).json).toEqual(paused)
      expect((yield* ask("GET /api/relay")).json).toEqual(paused)
      expect(yield* pause).toMatchObject({ status: 409, json: { type: "urn:clickhouse-outbox:already-paused" } })
      expect((yield* ask("POST /api/relay/resume")).json).toEqual({ paused: null })
      expect(yield* ask("POST /api/relay/resume")).toMatchObject({
        status: 409,
        json: { type: "urn:clickhouse-outbox:not-paused" }
      })
    })
  )

  it.scoped("The operator API shows batches and incidents", () =>
    Effect.gen(function* () {
      const ask = yield* asker()
      const { batchId, failureId } = yield* Failures.make([event()])
      const batch = { id: batchId, state: "failed", event_count: 1, failure_id: failureId }
      expect((yield* ask(`GET /api/batches/${batchId}`)).json).toMatchObject(batch)
      const listed = yield* ask(`GET /api/batches?state=failed&origin_id=${batchId}&limit=1`)
      expect(listed.json).toMatchObject({ batches: [batch], next: null })
      expect((yield* ask("GET /api/incidents?state=open")).json).toEqual({ incidents: [], next: null })
    })
  )

  {
    const FAILURE = "/api/failures/1"
    const EVENT = `${FAILURE}/events/${STRANGER}`
    const json = (body: string) => ({ body })
    const refused: Record<string, readonly [string, Asked, number, string]> = {
      "an unknown path": ["GET /api/nope?q=1", {}, 404, "There is no GET /api/nope. See /docs"],
      "an unknown method": ["DELETE /api/status", {}, 404, "There is no DELETE /api/status"],
      "a path that is no URL": ["GET /api/failures/%zz", {}, 404, "There is no GET"],
      "an id that is none": ["GET /api/failures/abc", {}, 400, "id: Expected a whole number"],
      "an id below 1": ["GET /api/failures/0", {}, 400, "id: Expected a whole number"],
      "an id beyond all": ["GET /api/failures/99999999999999999999", {}, 400, "id: Expected a whole number"],
      "a failure that is not there": ["GET /api/failures/4711", {}, 404, "There is no failure 4711"],
      "events of one that is not there": ["GET /api/failures/4711/events", {}, 404, "There is no failure 4711"],
      "the trail of one that is not there": ["GET /api/failures/4711/audit", {}, 404, "There is no failure 4711"],
      "a batch that is not there": ["GET /api/batches/4711", {}, 404, "There is no batch 4711"],
      "an event that is nowhere": [`GET /api/events/${STRANGER}`, {}, 404, "look in ClickHouse's event_log"],
      "an event that is not in the failure": [`GET ${EVENT}`, {}, 404, "Failure 1 has no event"],
      "ids that are none": ["GET /api/failures/arrivals?ids=1,x", {}, 400, "ids: Expected 1 to 500 ids, as 1,2,3"],
      "no ids": ["GET /api/failures/arrivals?ids=", {}, 400, "ids: Expected 1 to 500 ids"],
      "too many ids": [
        `GET /api/failures/arrivals?ids=${Arr.range(1, 501).join()}`,
        {},
        400,
        "ids: Expected 1 to 500 ids"
      ],
      "an event id that is none": ["GET /api/events/1", {}, 400, "event_id: Expected a uuid"],
      "a misspelt parameter": ["GET /api/failures?sate=open", {}, 400, "sate: is unexpected"],
      "a state that is none": ["GET /api/failures?state=bad", {}, 400, "state: Expected one of open, replayed"],
      "a class that is none": ["GET /api/failures?class=bad", {}, 400, "class: Expected one of data"],
      "a code that is none": ["GET /api/failures?code=1.5", {}, 400, "code: Expected a whole number"],
      "a code beyond all": ["GET /api/failures?code=4294967296", {}, 400, "code: Expected a whole number"],
      "a limit of nothing": ["GET /api/failures?limit=0", {}, 400, "limit: Expected a whole number from 1 to 500"],
      "a limit that is too high": ["GET /api/audit?limit=501", {}, 400, "limit: Expected a whole number from 1 to"],
      "two limits": ["GET /api/failures?limit=1&limit=2", {}, 400, "limit: Expected a whole number"],
      "a time that is none": ["GET /api/failures?since=yesterday", {}, 400, "since: Expected an RFC 3339 time"],
      "a day that is none": [
        "GET /api/failures?since=2026-02-30T00:00:00Z",
        {},
        400,
        "since: Expected an RFC 3339 time"
      ],
      "a time that the URL changed": [
        "GET /api/failures?until=2026-01-01T00:00:00+01:00",
        {},
        400,
        "in a URL write + as %2B"
      ],
      "U+0000 in a parameter": ["GET /api/failures?event_type=%00", {}, 400, "event_type: Must not contain"],
      "a batch state that is none": ["GET /api/batches?state=open", {}, 400, "state: Expected one of sealed"],
      "an incident state that is none": ["GET /api/incidents?state=x", {}, 400, "state: Expected one of open, closed"],
      "a body that is no JSON": [`PATCH ${EVENT}`, json("{"), 400, "The body is not JSON"],
      "no body": [`PATCH ${EVENT}`, {}, 400, "The body is not JSON"],
      "a body that is no UTF-8": [
        `POST ${FAILURE}/discard`,
        { body: Buffer.from([0x22, 0xff, 0x22]) },
        400,
        "The body is not UTF-8"
      ],
      "a form": [
        "POST /api/relay/pause",
        { body: "reason=x", headers: { "content-type": "application/x-www-form-urlencoded" } },
        415,
        "Content-Type: application/json"
      ],
      "a multipart form": [
        "POST /api/relay/pause",
        { body: "--x--", headers: { "content-type": "multipart/form-data; boundary=x" } },
        415,
        "Content-Type: application/json"
      ],
      "a body that is too large": [`PATCH ${EVENT}`, json(" ".repeat(9_437_185)), 413, "9437184 bytes at most"],
      "one that does not say how large it is": [
        `PATCH ${EVENT}`,
        { body: " ".repeat(9_437_185), headers: { "transfer-encoding": "chunked" } },
        413,
        "9437184 bytes at most"
      ],
      "a reason that is too large": [
        "POST /api/relay/pause",
        json(JSON.stringify({ reason: "x".repeat(65_536) })),
        413,
        "65536 bytes at most"
      ],
      "a filter that does not say how large it is": [
        "POST /api/failures/replay",
        { body: " ".repeat(65_537), headers: { "transfer-encoding": "chunked" } },
        413,
        "65536 bytes at most"
      ],
      "a correction of nothing": [`PATCH ${EVENT}`, json("{}"), 422, ": a correction is a JSON object"],
      "a correction of what cannot be": [
        `PATCH ${EVENT}`,
        json('{"event_id": 1}'),
        422,
        "event_id: cannot be corrected"
      ],
      "a correction of no event": [`PATCH ${EVENT}`, json('{"event_type": "x"}'), 404, `has no event ${STRANGER}`],
      "an endless nesting": [`PATCH ${EVENT}`, json("[".repeat(1_000_000)), 400, "1002 levels of objects and arrays"],
      "a replay of everything by mistake": ["POST /api/failures/replay", json("{}"), 400, 'or {"all": true}'],
      "a replay of everything and of some": [
        "POST /api/failures/replay",
        json('{"all": true, "code": 117}'),
        400,
        "not both"
      ],
      "a misspelt filter": ["POST /api/failures/replay", json('{"codee": 117}'), 400, "codee: is unexpected"],
      "a filter of another type": ["POST /api/failures/replay", json('{"code": "117"}'), 400, "code: Expected"],
      "a replay of closed ones": ["POST /api/failures/replay", json('{"state": "open"}'), 400, "state: is unexpected"],
      "a filter that is no object": ["POST /api/failures/replay", json("[1]"), 400, ": Expected"],
      "no note": [`POST ${FAILURE}/discard`, json("{}"), 400, "note: is missing"],
      "an empty note": [`POST ${FAILURE}/discard`, json('{"note": " "}'), 400, "note: Must not be empty"],
      "a reason of another type": ["POST /api/relay/pause", json('{"reason": 1}'), 400, "reason: Expected string"],
      "a note that is too long": [
        `POST ${FAILURE}/resolve`,
        json(`{"note": "${"x".repeat(1_001)}"}`),
        400,
        "note: Must have 1000 characters at most"
      ],
      "U+0000 in a note": [`POST ${FAILURE}/resolve`, json('{"note": "\\u0000"}'), 400, "note: Must not contain"],
      "a nameless operator": [
        `POST ${FAILURE}/replay`,
        { headers: { "x-operator": "" } },
        400,
        "x-operator: Expected 1 to 255 printable ASCII characters"
      ],
      "an operator of too many characters": [
        `POST ${FAILURE}/replay`,
        { headers: { "x-operator": "x".repeat(256) } },
        400,
        "x-operator: Expected 1 to 255"
      ]
    }

    it.scoped("The operator API says what is wrong with a request and changes nothing", () =>
      Effect.gen(function* () {
        const ask = yield* asker()
        yield* Failures.make([event()])
        for (const [what, [request, asked, status, says]] of Object.entries(refused)) {
          const answer = yield* ask(request, asked)
          const problem = Object(answer.json)
          expect({ what, status: answer.status }).toEqual({ what, status })
          expect(answer.headers["content-type"]).toBe("application/problem+json")
          expect(problem).toMatchObject({ type: expect.stringMatching(/^urn:clickhouse-outbox:[a-z-]+$/), status })
          expect([problem.detail, ...issuesOf(answer)].join("\n"), what).toContain(says)
        }
        expect((yield* ask("GET /api/audit")).json).toEqual({ entries: [], next: null })
        expect((yield* ask("GET /api/failures/1")).json).toMatchObject({ state: "open" })
      }).pipe(fresh)
    )
  }

  it.scoped("The operator API holds corrections against the definitions of the program that serves it", () =>
    Effect.gen(function* () {
      const UserCreated = Event.define({
        eventType: "user_created",
        eventContext: Schema.Struct({ userId: Schema.Number })
      })
      const ask = yield* Effect.provide(asker(), Layer.succeed(Event.Definitions, [UserCreated]))
      const { eventId, failureId } = yield* Failures.make([UserCreated({ userId: 1 })])
      const answer = yield* ask(`PATCH /api/failures/${failureId}/events/${eventId}`, {
        body: '{"event_context": {"userId": "one"}}'
      })
      expect(answer.status).toBe(422)
      expect(issuesOf(answer)).toEqual(['event_context.userId: Expected number, actual "one"'])
    })
  )

  it.scoped("The operator API can be used through a client that its contract makes", () =>
    Effect.gen(function* () {
      const baseUrl = yield* start(withToken)
      const client = yield* HttpApiClient.make(Api, {
        baseUrl,
        transformClient: HttpClient.mapRequest(HttpClientRequest.bearerToken(TOKEN))
      })
      const { batchId, eventId, eventIds, failureId } = yield* Failures.make([event({}, "client_tested"), event()])
      const path = { id: failureId, event_id: eventId }
      const headers = { actor: Failures.ADA }
      const { failures, next } = yield* client.failures.list({
        urlParams: { state: "open", eventType: "client_tested", since: new Date(0), limit: 1 }
      })
      expect([failures[0]?.id, failures[0]?.firstSeenAt, next]).toEqual([failureId, expect.any(Date), null])
      expect((yield* client.failures.get({ path })).events.map((event) => event.eventId)).toEqual(eventIds)
      expect((yield* client.failures.events({ path, urlParams: { limit: 1 } })).next).toEqual(expect.any(Number))
      const payload = { event_context: { n: 3 } }
      const corrected = yield* client.failures.correct({ path, headers, payload })
      expect([corrected.eventContext, corrected.correctedAt]).toEqual([{ n: 3 }, expect.any(Date)])
      expect((yield* client.failures.event({ path })).eventContext).toEqual({ n: 3 })
      expect(yield* client.failures.replayEvent({ path, headers })).toEqual({ failures: [failureId], events: 1 })
      expect(yield* client.failures.replay({ path, headers })).toEqual({ failures: [failureId], events: 1 })
      expect(yield* client.failures.arrivals({ urlParams: { ids: [failureId] } })).toMatchObject({ pending: 2 })
      expect(yield* client.failures.replayAll({ headers: {}, payload: { eventType: "none" } })).toMatchObject({
        events: 0
      })
      const problem = yield* Effect.flip(client.failures.discard({ path, headers, payload: { note: "late" } }))
      expect(problem).toBeInstanceOf(Problem)
      expect(problem).toMatchObject({ _tag: "Problem", status: 409 })
      const late = yield* Effect.flip(client.failures.resolve({ path, headers, payload: { note: "late" } }))
      expect(late.message).toContain("is replayed already")
      const [entry] = (yield* client.failures.audit({ path, urlParams: {} })).entries
      expect(entry).toMatchObject({ actor: "ada", action: "replay", before: { state: "open" } })
      expect(yield* client.outbox.status()).toMatchObject({
        backlog: expect.any(Number),
        openFailures: { failures: expect.any(Number) }
      })
      expect((yield* client.outbox.batches({ urlParams: { originId: batchId } })).batches).toHaveLength(1)
      expect((yield* client.outbox.batch({ path: { id: batchId } })).state).toBe("failed")
      expect((yield* client.outbox.where({ path: { event_id: eventId } })).state).toBe("pending")
      expect((yield* client.outbox.incidents({ urlParams: {} })).incidents).toEqual([])
      expect((yield* client.outbox.audit({ urlParams: { limit: 1 } })).entries).toHaveLength(1)
      expect((yield* client.relay.pause({ headers, payload: { reason: "test" } })).paused?.pausedBy).toBe("ada")
      expect((yield* client.relay.state()).paused?.pausedAt).toEqual(expect.any(Date))
      expect(yield* client.relay.resume({ headers })).toEqual({ paused: null })
    }).pipe(Effect.provide(FetchHttpClient.layer))
  )

  it.scoped("The operator API describes every endpoint, in documents that load nothing from elsewhere", () =>
    Effect.gen(function* () {
      const ask = yield* asker(withToken)
      const document = Object((yield* ask("GET /openapi.json")).json)
      const endpoints = Object.values(Api.groups).flatMap((group) => Object.values(group.endpoints))
      const documented = Object.entries(document.paths).flatMap(([path, operations]) =>
        Object.entries(Object(operations)).map(([method, operation]) => {
          expect(operation).toMatchObject({ summary: expect.any(String), description: expect.any(String) })
          expect(Object(operation).responses[400].content).toHaveProperty(["application/problem+json"])
          return `${method.toUpperCase()} ${path.replaceAll(/\{(\w+)\}/g, ":$1")}`
        })
      )
      expect(documented.sort()).toEqual(endpoints.map(({ method, path }) => `${method} ${path}`).sort())
      expect(documented).toHaveLength(30)
      const docs = yield* ask("GET /docs")
      expect(docs.status).toBe(200)
      expect(docs.text).not.toMatch(/<(?:script|link|img|iframe)[^>]+(?:src|href)=/)
      expect(docs.headers["content-security-policy"]).toMatch(/^default-src 'self';/)
    })
  )
})
