/** What has arrived in ClickHouse, for people who look at it. */
import { randomUUID } from "node:crypto"
import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import * as HttpApiClient from "@effect/platform/HttpApiClient"
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { ClickHouse } from "../../src/ClickHouse.ts"
import * as Config from "../../src/Config.ts"
import * as Event from "../../src/Event.ts"
import * as EventLog from "../../src/EventLog.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import { Api } from "../../src/OperatorServer.ts"
import * as Environment from "../support/environment.ts"
import { asker, issuesOf, services, start } from "../support/operator.ts"
import { drain } from "../support/relay.ts"

const live = Layer.provideMerge(services, Environment.layer())

/** On databases of its own. */
const fresh = <A, E, R>(test: Effect.Effect<A, E, R>) => Effect.provide(Effect.scoped(test), live)

const minutesAgo = (minutes: number) => new Date(Date.now() - minutes * 60_000)

const event = (
  options: Event.EventOptions & { readonly eventType?: string; readonly eventContext?: Event.JsonObject }
) => Event.make({ eventType: "explored", eventContext: {}, ...options })

const publish = (events: ReadonlyArray<Event.Event>) => Effect.zipLeft(EventPublisher.publishAll(events), drain)

const list = (filter: EventLog.EventFilter = {}) => Effect.flatMap(EventLog.EventLog, ({ list }) => list(filter))

const find = (eventId: string, hint?: EventLog.Hint) =>
  Effect.flatMap(EventLog.EventLog, ({ find }) => find(Schema.decodeSync(Event.EventId)(eventId), hint))

const idsOf = ({ events }: EventLog.LoggedEvents) => events.map(({ eventId }) => eventId)

/** Every page, until there is none. */
const pages = (filter: EventLog.EventFilter) =>
  Effect.gen(function* () {
    const seen: Array<EventLog.LoggedEvents> = [yield* list(filter)]
    for (let next = seen[0]?.next ?? null; next !== null; next = seen.at(-1)?.next ?? null) {
      seen.push(yield* list({ ...filter, before: next }))
    }
    return seen
  })

layer(live, { excludeTestServices: true })((it) => {
  it.scoped("The event explorer shows what has arrived, whole, with every digit", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const context = '{"n":9223372036854775807,"a.b":"x/y","text":"ä \\"quoted\\"","nested":{"list":[1,2]}}'
      const [row] = yield* sql<{ id: string }>`
        SELECT outbox.publish(
          'whole', ${context}::jsonb, ${"2026-01-02 03:04:05.678901+00"}::timestamptz, 'staging', 9223372036854775807, NULL,
          '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
        ) AS id
      `
      yield* drain
      const [found] = yield* find(row?.id ?? "")
      expect(found).toMatchObject({
        eventId: row?.id,
        eventType: "whole",
        eventDateTime: "2026-01-02T03:04:05.678901Z",
        environment: "staging",
        metadataVersion: "9223372036854775807",
        traceId: "4bf92f3577b34da6a3ce929d0e0e4736"
      })
      expect(found.eventContext).toContain('"n":9223372036854775807')
      expect(JSON.parse(found.eventContext)).toEqual(JSON.parse(context))
    })
  )

  it.scoped("The event explorer says which column of a table of the user's own cannot be read", () =>
    fresh(
      Effect.gen(function* () {
        const clickHouse = yield* ClickHouse
        yield* clickHouse.command("ALTER TABLE event_log MODIFY COLUMN environment Nullable(String)")
        yield* clickHouse.command(
          "INSERT INTO event_log (event_type, event_date_time, environment, event_id) SELECT 'own', now(), NULL, generateUUIDv4()"
        )
        const error = yield* Effect.flip(list())
        expect(error).toMatchObject({ _tag: "SinkError", errorClass: "configuration" })
        expect(error.message).toContain("Column environment")
      })
    )
  )

  it.scoped("The event explorer lists the newest first, of the last hour, and further back when it is asked to", () =>
    Effect.gen(function* () {
      const [a = "", b = "", c = "", old = ""] = yield* publish(
        [3, 2, 1, 90].map((minutes) => event({ eventDateTime: minutesAgo(minutes) }))
      )
      expect(idsOf(yield* list())).toEqual([c, b, a])
      expect(idsOf(yield* list({ since: minutesAgo(120) }))).toEqual([c, b, a, old])
      expect(idsOf(yield* list({ since: minutesAgo(120), until: minutesAgo(2) }))).toEqual([b, a, old])
      expect(idsOf(yield* list({ until: minutesAgo(60) }))).toEqual([old])
    }).pipe(fresh)
  )

  it.scoped(
    "The event explorer looks a day ahead unless it is told how far, whatever time a publisher has given an event",
    () =>
      Effect.gen(function* () {
        const [soon = "", far = ""] = yield* publish([
          event({ eventDateTime: minutesAgo(-60) }),
          event({ eventType: "far", eventDateTime: new Date("2299-06-01T00:00:00Z") })
        ])
        expect(idsOf(yield* list())).toEqual([soon])
        expect(idsOf(yield* list({ until: new Date("2299-12-31T00:00:00Z"), since: minutesAgo(1) }))).toEqual([
          far,
          soon
        ])
        const { eventTypes } = yield* Effect.flatMap(EventLog.EventLog, ({ names }) => names())
        expect(eventTypes).toEqual([{ name: "explored", events: 1 }])
      }).pipe(fresh)
  )

  it.scoped("The event explorer shows what matches a type, an environment, or both, whatever they are made of", () =>
    Effect.gen(function* () {
      const strange = "it's {x:String} \\' 💥"
      const [a = "", b = "", c = ""] = yield* publish([
        event({ eventType: strange, environment: "staging", eventDateTime: minutesAgo(3) }),
        event({ eventType: strange, environment: strange, eventDateTime: minutesAgo(2) }),
        event({ eventType: "other", environment: "staging", eventDateTime: minutesAgo(1) })
      ])
      expect(idsOf(yield* list({ eventType: strange }))).toEqual([b, a])
      expect(idsOf(yield* list({ environment: "staging" }))).toEqual([c, a])
      expect(idsOf(yield* list({ eventType: strange, environment: strange }))).toEqual([b])
      expect(idsOf(yield* list({ eventType: "%" }))).toEqual([])
    }).pipe(fresh)
  )

  it.scoped(
    "The event explorer pages through events of one and the same moment, nothing twice and nothing skipped",
    () =>
      Effect.gen(function* () {
        const eventDateTime = minutesAgo(5)
        const ids = yield* publish(
          Arr.makeBy(25, (index) => event({ eventDateTime, eventType: `type_${index % 3}`, eventId: randomUUID() }))
        )
        const seen = yield* pages({ limit: 10 })
        expect(seen.map(({ events }) => events.length)).toEqual([10, 10, 5])
        expect(seen.flatMap(idsOf).sort()).toEqual([...ids].sort())
        expect((yield* list({ limit: 25 })).next).toBe(null)
      }).pipe(fresh)
  )

  it.scoped("The event explorer is not confused by what arrives between two pages", () =>
    Effect.gen(function* () {
      const [a = "", b = ""] = yield* publish([5, 4].map((minutes) => event({ eventDateTime: minutesAgo(minutes) })))
      const first = yield* list({ limit: 1 })
      yield* publish([event({ eventDateTime: minutesAgo(1) })])
      expect(idsOf(first)).toEqual([b])
      expect(idsOf(yield* list({ limit: 1, ...(first.next !== null && { before: first.next }) }))).toEqual([a])
    }).pipe(fresh)
  )

  it.scoped("The event explorer ends a page of heavy events early, and goes on where it ended", () =>
    Effect.gen(function* () {
      const weight = "x".repeat(1_000_000)
      const ids = yield* publish(
        Arr.makeBy(12, (index) => event({ eventContext: { weight }, eventDateTime: minutesAgo(30 - index) }))
      )
      const seen = yield* pages({ limit: 10 })
      expect(seen.map(({ events }) => events.length)).toEqual([5, 5, 2])
      expect(seen.flatMap(idsOf)).toEqual([...ids].reverse())
    }).pipe(fresh)
  )

  it.scoped("The event explorer suggests the types and environments that there are, the most frequent first", () =>
    Effect.gen(function* () {
      yield* publish([
        event({ eventType: "rare", environment: "staging" }),
        event({ eventType: "frequent" }),
        event({ eventType: "frequent" }),
        event({ eventType: "ancient", eventDateTime: minutesAgo(60 * 25) })
      ])
      const { names } = yield* EventLog.EventLog
      expect(yield* names()).toMatchObject({
        eventTypes: [
          { name: "frequent", events: 2 },
          { name: "rare", events: 1 }
        ],
        environments: [
          { name: "test", events: 2 },
          { name: "staging", events: 1 }
        ]
      })
      expect((yield* names(minutesAgo(60 * 26))).eventTypes).toHaveLength(3)
    }).pipe(fresh)
  )

  {
    const places: Record<string, Event.EventOptions> = {
      "that tells its time": {},
      "that tells another time than its own": { eventDateTime: minutesAgo(60 * 24 * 400) },
      "that tells no time": { eventId: randomUUID() },
      "that tells a time beyond all": { eventId: "ffffffff-ffff-7fff-bfff-ffffffffffff" }
    }
    for (const [what, options] of Object.entries(places)) {
      it.scoped(what, () =>
        Effect.gen(function* () {
          const [eventId = ""] = yield* publish([event(options)])
          expect(yield* find(eventId)).toMatchObject([{ eventId, eventType: "explored" }])
        })
      )
    }

    it.scoped("The event explorer finds an event by its id where it is told to look, and nowhere else", () =>
      Effect.gen(function* () {
        const eventDateTime = minutesAgo(60 * 24 * 100)
        const [eventId = ""] = yield* publish([event({ eventDateTime, eventType: "hinted" })])
        const around = { since: new Date(eventDateTime.getTime() - 1), until: new Date(eventDateTime.getTime() + 1) }
        expect(yield* find(eventId, { eventType: "hinted", ...around })).toHaveLength(1)
        expect(yield* Effect.flip(find(eventId, { eventType: "other", ...around }))).toMatchObject({
          _tag: "LoggedEventNotFound"
        })
        expect(yield* Effect.flip(find(eventId, { since: minutesAgo(1) }))).toMatchObject({ eventId })
      })
    )

    it.scoped("The event explorer finds an event by its id and says where else it may be when it is not there", () =>
      Effect.gen(function* () {
        const missing = yield* Effect.flip(find(randomUUID()))
        expect(missing.message).toContain("It may be on its way")
      })
    )

    it.scoped(
      "The event explorer finds an event by its id through the table's key, when its type and its time are known",
      () =>
        Effect.gen(function* () {
          const clickHouse = yield* ClickHouse
          // Enough for the key to have something to leave out.
          yield* clickHouse.command(
            `INSERT INTO event_log SELECT 'many', now64(6) - INTERVAL number SECOND, 'test', '{}', 1, generateUUIDv4(), ''
           FROM numbers(100000)`
          )
          const eventId = randomUUID()
          yield* publish([event({ eventId, eventType: "keyed", eventDateTime: minutesAgo(1) })])
          const frugal: typeof clickHouse = {
            ...clickHouse,
            query: (statement, parameters, options) =>
              clickHouse.query(statement, parameters, { settings: { ...options?.settings, max_rows_to_read: 20_000 } })
          }
          const { find } = yield* Effect.provideService(
            Effect.flatMap(Config.clickHouse, EventLog.make),
            ClickHouse,
            frugal
          )
          const id = Schema.decodeSync(Event.EventId)(eventId)
          expect(yield* Effect.flip(find(id))).toMatchObject({ _tag: "TooCostly" })
          expect(yield* find(id, { eventType: "keyed", since: minutesAgo(60) })).toHaveLength(1)
        }).pipe(fresh)
    )
  }

  it.scoped("The event explorer gives up what takes too long, says what to do, and keeps nobody else waiting", () =>
    Effect.gen(function* () {
      const clickHouse = yield* ClickHouse
      // As if there were so many rows that ClickHouse needs a second for each.
      yield* clickHouse.command("DROP TABLE event_log")
      yield* clickHouse.command(
        `CREATE VIEW event_log AS
         SELECT 'slow' AS event_type, now64(6) AS event_date_time, 'test' AS environment, '{}' AS event_context,
           toUInt64(1) AS metadata_version, generateUUIDv4() AS event_id, '' AS trace_id
         FROM system.numbers WHERE NOT ignore(sleepEachRow(1)) SETTINGS max_block_size = 1`
      )
      const ask = yield* asker()
      const ended: Array<string> = []
      const asked = (request: string) => Effect.tap(ask(request), () => ended.push(request))
      const [answer] = yield* Effect.all(
        [asked("GET /api/event-log"), asked("GET /api/event-log"), asked("GET /api/failures")],
        { concurrency: "unbounded" }
      )
      expect(ended[0]).toBe("GET /api/failures")
      expect(answer).toMatchObject({
        status: 422,
        json: {
          type: "urn:clickhouse-outbox:too-costly",
          detail: expect.stringContaining("Give an event type, or a shorter time")
        }
      })
    }).pipe(fresh)
  )

  it.scoped("The event explorer says why while ClickHouse cannot be asked", () =>
    Effect.gen(function* () {
      const context = yield* Layer.build(
        Layer.provideMerge(services, Environment.another({ CLICKHOUSE_URL: "http://127.0.0.1:1" }))
      )
      const ask = yield* Effect.provide(asker(), context)
      expect(yield* ask("GET /api/event-log")).toMatchObject({
        status: 503,
        headers: { "retry-after": "5" },
        json: {
          type: "urn:clickhouse-outbox:clickhouse-unavailable",
          detail: expect.stringContaining("ECONNREFUSED")
        }
      })
      expect((yield* ask("GET /api/failures")).status).toBe(200)
    })
  )

  it.scoped("The event explorer can be used over HTTP, through a client that the contract makes", () =>
    Effect.gen(function* () {
      const client = yield* HttpApiClient.make(Api, { baseUrl: yield* start() })
      const [eventId = ""] = yield* publish([event({ eventType: "asked for" })])
      const urlParams = { type: "asked for", environment: "test", since: minutesAgo(1), limit: 1 }
      expect((yield* client.eventLog.list({ urlParams })).events).toMatchObject([{ eventId, eventContext: "{}" }])
      expect((yield* client.eventLog.names({ urlParams: {} })).eventTypes).toContainEqual({
        name: "asked for",
        events: 1
      })
      const path = { event_id: Schema.decodeSync(Event.EventId)(eventId) }
      expect((yield* client.eventLog.event({ path, urlParams: { type: "asked for" } })).events).toHaveLength(1)
    }).pipe(Effect.provide(FetchHttpClient.layer))
  )

  const refused: Record<string, [path: string, says: string]> = {
    "a cursor that is none": ["?before=yesterday", "before: Expected `next` of the page before"],
    "a cursor of no time": [
      "?before=2026-13-01T00:00:00.000000Z,01890a5d-ac96-774b-bcce-b302099a8057",
      "before: Expected `next` of the page before"
    ],
    "a limit that is too high": ["?limit=201", "limit: Expected a whole number from 1 to 200"],
    "a misspelt filter": ["?event_type=x", "event_type: is unexpected"],
    "an id that is none": ["/1", "event_id: Expected a uuid"]
  }

  it.scoped("The event explorer takes a time before or after all as one that is before or after all", () =>
    Effect.gen(function* () {
      const ask = yield* asker()
      const answer = yield* ask("GET /api/event-log?since=0001-01-01T00:00:00Z&until=9999-12-31T23:59:59Z")
      expect(answer).toMatchObject({ status: 200, json: { events: expect.any(Array) } })
    })
  )

  it.scoped("The event explorer refuses what it does not understand", () =>
    Effect.gen(function* () {
      const ask = yield* asker()
      for (const [what, [path, says]] of Object.entries(refused)) {
        const answer = yield* ask(`GET /api/event-log${path}`)
        expect({ what, status: answer.status }).toEqual({ what, status: 400 })
        expect(issuesOf(answer).join("\n"), what).toContain(says)
      }
    })
  )
})
