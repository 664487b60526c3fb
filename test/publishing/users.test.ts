import { HttpApiClient, HttpClient, HttpClientRequest } from "@effect/platform"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { SqlClient } from "@effect/sql"
import { expect, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { Api } from "../../examples/users/Api.ts"
import { DatabasesLive } from "../../examples/users/Databases.ts"
import { HttpLive } from "../../examples/users/Http.ts"
import { Country, Email, UserId } from "../../examples/users/User.ts"
import * as Config from "../../src/Config.ts"
import * as Relay from "../../src/Relay.ts"
import * as Environment from "../support/environment.ts"
import { eventLog } from "../support/eventLog.ts"

const ServiceLive = HttpLive.pipe(
  Layer.provideMerge(NodeHttpServer.layerTest),
  Layer.provideMerge(DatabasesLive),
  Layer.provideMerge(Environment.layer())
)

const users = Effect.map(HttpApiClient.make(Api), ({ users }) => users)

const somebody = (name: string) => ({ email: Email.make(`${name}@example.com`), name, country: Country.make("GB") })

const nobody = UserId.make("00000000-0000-4000-8000-000000000000")

const post = (body: unknown) =>
  Effect.flatMap(HttpClient.HttpClient, (http) =>
    http.execute(HttpClientRequest.post("/users").pipe(HttpClientRequest.bodyUnsafeJson(body)))
  ).pipe(Effect.map(({ status }) => status))

/** What ClickHouse holds of one user, once everything that was published is there. */
const eventsOf = (email: string) =>
  Effect.gen(function* () {
    const relay = yield* Relay.make({ ...(yield* Config.relay), ...(yield* Config.outbox) })
    yield* relay.drain
    const events = yield* eventLog
    return events.filter(({ eventContext }) => JSON.stringify(eventContext).includes(`"${email}"`))
  })

const rowsOf = (email: string) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) => sql`SELECT * FROM users WHERE email = ${email}`)

layer(ServiceLive, { excludeTestServices: true })((it) => {
  it.effect("The users service a user who is created is told of in ClickHouse, once", () =>
    Effect.gen(function* () {
      const user = yield* Effect.flatMap(users, ({ create }) => create({ payload: somebody("ada") }))
      expect(yield* Effect.flatMap(users, ({ get }) => get({ path: { id: user.id } }))).toEqual(user)
      expect(yield* eventsOf("ada@example.com")).toEqual([
        expect.objectContaining({
          eventType: "user_created",
          environment: "test",
          eventContext: { userId: user.id, ...somebody("ada"), origin: "registration" }
        })
      ])
    })
  )

  it.effect(
    "The users service a user who is created has an event that leads to the request's trace, in both databases",
    () =>
      Effect.gen(function* () {
        const { traceId } = yield* Effect.currentSpan.pipe(
          Effect.zipLeft(Effect.flatMap(users, ({ create }) => create({ payload: somebody("grace") }))),
          Effect.withSpan("browser")
        )
        expect(yield* eventsOf("grace@example.com")).toEqual([expect.objectContaining({ traceId })])
        const sql = yield* SqlClient.SqlClient
        const [stored] = yield* sql<{ traceparent: string }>`
          SELECT traceparent FROM outbox.event WHERE event_context->>'email' = 'grace@example.com'
        `
        expect(stored?.traceparent).toMatch(new RegExp(`^00-${traceId}-[0-9a-f]{16}-01$`))
      })
  )

  it.effect("The users service a user who is created is credited to who has invited them", () =>
    Effect.gen(function* () {
      const { create, get } = yield* users
      const { id } = yield* create({ payload: somebody("alan") })
      yield* create({ payload: { ...somebody("joan"), invitedBy: id } })
      expect((yield* get({ path: { id } })).invitations).toBe(1)
      expect(yield* eventsOf("joan@example.com")).toEqual([
        expect.objectContaining({ eventContext: expect.objectContaining({ origin: "invitation", invitedBy: id }) })
      ])
    })
  )

  it.effect(
    "The users service a request that is refused leaves neither a user nor an event 409: the e-mail is taken, in whatever case",
    () =>
      Effect.gen(function* () {
        const { create } = yield* users
        yield* create({ payload: somebody("hedy") })
        expect(yield* post({ ...somebody("HEDY"), name: "Another" })).toBe(409)
        const error = yield* Effect.flip(create({ payload: somebody("hedy") }))
        expect(error._tag).toBe("EmailTaken")
        expect(yield* rowsOf("HEDY@example.com")).toEqual([])
        expect(yield* eventsOf("HEDY@example.com")).toEqual([])
        expect(yield* eventsOf("hedy@example.com")).toHaveLength(1)
      })
  )

  it.effect(
    "The users service a request that is refused leaves neither a user nor an event 400: it describes no user",
    () =>
      Effect.gen(function* () {
        expect(yield* post({ ...somebody("edsger"), country: "Netherlands" })).toBe(400)
        expect(yield* post({ email: "edsger@example.com" })).toBe(400)
        expect(yield* post({ ...somebody("edsger"), email: "edsger" })).toBe(400)
        expect(yield* rowsOf("edsger@example.com")).toEqual([])
        expect(yield* eventsOf("edsger@example.com")).toEqual([])
      })
  )

  it.effect(
    "The users service a request that is refused leaves neither a user nor an event 404: nobody has the inviter's id, which is found out after the event was published",
    () =>
      Effect.gen(function* () {
        const { create } = yield* users
        const error = yield* Effect.flip(create({ payload: { ...somebody("radia"), invitedBy: nobody } }))
        expect(error).toMatchObject({ _tag: "UserNotFound", id: nobody })
        expect(yield* rowsOf("radia@example.com")).toEqual([])
        expect(yield* eventsOf("radia@example.com")).toEqual([])
      })
  )

  it.effect("The users service an import creates those who are not users yet, with an event for each", () =>
    Effect.gen(function* () {
      const service = yield* users
      yield* service.create({ payload: somebody("barbara") })
      const answer = yield* service.import({ payload: [somebody("barbara"), somebody("donald"), somebody("tony")] })
      expect(answer).toEqual({ imported: 2 })
      expect(yield* eventsOf("barbara@example.com")).toHaveLength(1)
      expect(yield* eventsOf("tony@example.com")).toEqual([
        expect.objectContaining({ eventContext: expect.objectContaining({ origin: "import" }) })
      ])
    })
  )

  it.effect("The users service 404: there is no user with the id", () =>
    Effect.gen(function* () {
      const { get } = yield* users
      expect(yield* Effect.flip(get({ path: { id: nobody } }))).toMatchObject({ _tag: "UserNotFound", id: nobody })
    })
  )
})
