import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Event from "../../src/Event.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import { transaction } from "../../src/Transaction.ts"
import { PublishedEvents } from "../../src/testing/index.ts"
import * as Environment from "../support/environment.ts"

const UserCreated = Event.define({
  eventType: "user_created",
  metadataVersion: 2,
  eventContext: Schema.Struct({
    userId: Schema.Number,
    email: Schema.String,
    registeredAt: Schema.optional(Schema.Date),
    referrer: Schema.optional(Schema.OptionFromNullOr(Schema.String)),
    address: Schema.optional(Schema.Struct({ city: Schema.String, zip: Schema.String })),
    tags: Schema.optional(Schema.Array(Schema.String))
  })
})

const register = (userId: number, email: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql`INSERT INTO users (id, email) VALUES (${userId}, ${email})`
    return yield* EventPublisher.publish(UserCreated({ userId, email }))
  }).pipe(transaction)

const rename = EventPublisher.publish(
  Event.make({ eventType: "user_renamed", eventContext: { userId: 1, name: "Ada" } })
)

const createUsers = Layer.effectDiscard(
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) => sql`
      CREATE TABLE users (id integer PRIMARY KEY, email text UNIQUE DEFERRABLE INITIALLY DEFERRED)
    `
  )
)

layer(createUsers.pipe(Layer.provideMerge(Environment.layer())), { excludeTestServices: true })((it) => {
  it.effect("PublishedEvents by gives what the code returned and published, decoded, and leaves nothing behind", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const eventDateTime = new Date("2026-01-31T12:00:00.123Z")
      const { events, result } = yield* PublishedEvents.by(
        Effect.all([
          register(1, "ada@example.com"),
          EventPublisher.publish(
            Event.make({
              eventType: "given",
              eventContext: { a: [null, { b: 1 }] },
              eventDateTime,
              environment: "staging"
            })
          )
        ])
      )
      expect(events).toEqual([
        {
          eventId: result[0],
          eventType: "user_created",
          eventDateTime: expect.any(Date),
          environment: "test",
          eventContext: { userId: 1, email: "ada@example.com" },
          metadataVersion: 2n,
          traceparent: Option.some(expect.stringMatching(/^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/))
        },
        {
          eventId: result[1],
          eventType: "given",
          eventDateTime,
          environment: "staging",
          eventContext: { a: [null, { b: 1 }] },
          metadataVersion: 1n,
          traceparent: Option.some(expect.stringMatching(/^00-/))
        }
      ])
      expect(yield* sql`SELECT FROM users`).toEqual([])
      expect(yield* sql`SELECT FROM outbox.event`).toEqual([])
    })
  )

  it.scoped("PublishedEvents by does not see what was undone, what came before, and what others publish", () =>
    Effect.gen(function* () {
      const others = yield* Effect.flatMap(SqlClient.SqlClient, (sql) => sql.reserve)
      const { events } = yield* transaction(
        Effect.gen(function* () {
          yield* register(1, "before@example.com")
          return yield* PublishedEvents.by(
            Effect.gen(function* () {
              yield* Effect.ignore(transaction(Effect.zipRight(register(2, "undone@example.com"), Effect.fail("no"))))
              yield* others.executeRaw("SELECT outbox.publish('user_deleted', '{}')", [])
              yield* register(3, "seen@example.com")
            })
          )
        })
      )
      yield* PublishedEvents.requireOne(events, UserCreated, { email: "seen@example.com" })
      expect(events).toHaveLength(1)
    })
  )

  it.effect("PublishedEvents by fails as the code fails, also where only COMMIT would", () =>
    Effect.gen(function* () {
      expect(yield* Effect.flip(PublishedEvents.by(Effect.zipRight(rename, Effect.fail("no"))))).toBe("no")
      const same = Effect.zipRight(register(11, "same@example.com"), register(12, "same@example.com"))
      expect(yield* Effect.flip(PublishedEvents.by(same))).toMatchObject({
        cause: { constraint: "users_email_key" }
      })
      const careless = Effect.zipRight(
        Effect.ignore(Effect.flatMap(SqlClient.SqlClient, (sql) => sql`SELECT 1 / 0`)),
        rename
      )
      expect(yield* Effect.flip(PublishedEvents.by(Effect.ignore(careless)))).toMatchObject({ _tag: "SqlError" })
    })
  )

  it.effect(
    "PublishedEvents inTransaction gives what the transaction has published until now, which can still be committed",
    () =>
      Effect.gen(function* () {
        const events = yield* transaction(
          Effect.zipRight(register(21, "committed@example.com"), PublishedEvents.inTransaction)
        )
        const { eventId } = yield* PublishedEvents.requireOne(events, UserCreated)
        const sql = yield* SqlClient.SqlClient
        expect(yield* sql`SELECT FROM outbox.event WHERE event_id = ${eventId}`).toHaveLength(1)
      })
  )

  it.effect("PublishedEvents inTransaction fails where there is no transaction, instead of seeing nothing", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(PublishedEvents.inTransaction)
      expect(error._tag).toBe("NotInTransaction")
      expect(error.message).toContain("use PublishedEvents.by")
    })
  )

  const seen = Effect.map(
    PublishedEvents.by(
      Effect.zipRight(
        rename,
        EventPublisher.publishAll([
          UserCreated({
            userId: 1,
            email: "ada@example.com",
            registeredAt: new Date("2026-01-31"),
            referrer: Option.some("bob"),
            address: { city: "London", zip: "NW1" },
            tags: ["a", "b"]
          }),
          UserCreated({ userId: 2, email: "bob@example.com" })
        ])
      )
    ),
    ({ events }) => events
  )

  const mismatches = (expected: PublishedEvents.Expected<typeof UserCreated.eventContext.Type>) =>
    Effect.gen(function* () {
      const events = yield* seen
      const error = yield* Effect.flip(PublishedEvents.requireOne(events, UserCreated, expected))
      return error.published.map(({ mismatch }) => Option.getOrUndefined(mismatch))
    })

  it.effect(
    "PublishedEvents requireOne gives the one event that is as expected, its context of the definition's type",
    () =>
      Effect.gen(function* () {
        const events = yield* seen
        const one = PublishedEvents.requireOne
        const ada = yield* one(events, UserCreated, { email: "ada@example.com" })
        const registeredAt: Date | undefined = ada.eventContext.registeredAt
        expect(registeredAt).toEqual(new Date("2026-01-31"))
        for (const expected of [
          { registeredAt: new Date("2026-01-31") },
          { referrer: Option.some("bob") },
          { address: { city: "London" } },
          { tags: ["a", "b"] },
          { userId: (id: number) => id < 2 },
          ({ email }: { readonly email: string }) => email.startsWith("ada"),
          ada.eventContext
        ]) {
          expect(yield* one(events, UserCreated, expected)).toEqual(ada)
        }
        // @ts-expect-error it has no name
        expect(yield* Effect.exit(one(events, UserCreated, { name: "Ada" }))).toMatchObject({ _tag: "Failure" })
        expect(yield* one(events, UserCreated, { address: undefined })).toMatchObject({ eventContext: { userId: 2 } })
        expect(yield* one(events, "user_renamed", { name: "Ada" })).toEqual(events[0])
      })
  )

  it.effect("PublishedEvents requireOne names the first difference of each event", () =>
    Effect.gen(function* () {
      const other = "is of another type"
      const missing = (field: string, what: string) => `${field} is undefined, not ${what}`
      expect(yield* mismatches({ userId: 1, email: "x" })).toEqual([
        other,
        'email is "ada@example.com", not "x"',
        "userId is 2, not 1"
      ])
      expect(yield* mismatches({ address: { zip: "N1" } })).toEqual([
        other,
        'address.zip is "NW1", not "N1"',
        missing("address", '{"zip":"N1"}')
      ])
      expect(yield* mismatches({ tags: ["a"] })).toEqual([
        other,
        'tags is ["a","b"], not ["a"]',
        missing("tags", '["a"]')
      ])
      expect(yield* mismatches({ tags: ["a", "c"] })).toEqual([
        other,
        'tags.1 is "b", not "c"',
        missing("tags", '["a","c"]')
      ])
      expect(yield* mismatches({ registeredAt: new Date(0) })).toMatchObject([
        other,
        expect.stringMatching(/^registeredAt is .*2026-01-31.*, not .*1970-01-01/),
        expect.stringMatching(/^registeredAt is undefined, not/)
      ])
      expect(yield* mismatches({ userId: () => false })).toEqual([
        other,
        "userId is 1, which does not satisfy the predicate",
        "userId is 2, which does not satisfy the predicate"
      ])
    })
  )

  it.effect("PublishedEvents requireOne fails if more than one is as expected, and says which", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(PublishedEvents.requireOne(yield* seen, UserCreated))
      expect(error.message).toBe(
        [
          'Expected one event "user_created" that matches, found 2. Published:',
          '  1. "user_renamed" version 1 {"name":"Ada","userId":1}: is of another type',
          '  2. "user_created" version 2 {"tags":["a","b"],"email":"ada@example.com","userId":1,"address":{"zip":"NW1","city":"London"},"referrer":"bob","registeredAt":"2026-01-31T00:00:00.000Z"}: matches',
          '  3. "user_created" version 2 {"email":"bob@example.com","userId":2}: matches'
        ].join("\n")
      )
    })
  )

  it.effect("PublishedEvents requireOne fails if the event is of another version or shape than its definition", () =>
    Effect.gen(function* () {
      const { events } = yield* PublishedEvents.by(
        EventPublisher.publishAll([
          Event.make({ eventType: "user_created", eventContext: { userId: 1, email: "ada@example.com" } }),
          Event.make({ eventType: "user_created", eventContext: { userId: "1" }, metadataVersion: 2 })
        ])
      )
      const error = yield* Effect.flip(PublishedEvents.requireOne(events, UserCreated))
      expect(error.published.map(({ mismatch }) => Option.getOrUndefined(mismatch))).toEqual([
        "is not of version 2",
        'is not of its shape: userId: Expected number, actual "1"; email: is missing'
      ])
    })
  )

  it.effect("PublishedEvents requireOne fails if nothing was published", () =>
    Effect.gen(function* () {
      const { events } = yield* PublishedEvents.by(Effect.void)
      const error = yield* Effect.flip(PublishedEvents.requireOne(events, "user_created"))
      expect(error.message).toBe('Expected one event "user_created" that matches, found 0. Nothing was published')
    })
  )

  it.effect("PublishedEvents requireNone fails if there is an event that is as expected, and only then", () =>
    Effect.gen(function* () {
      const events = yield* seen
      yield* PublishedEvents.requireNone(events, "user_deleted")
      yield* PublishedEvents.requireNone(events, "user_renamed", { name: "Bob" })
      yield* PublishedEvents.requireNone(events, UserCreated, { userId: 3 })
      const error = yield* Effect.flip(PublishedEvents.requireNone(events, UserCreated, { userId: 2 }))
      expect(error.message).toContain('Expected no event "user_created" that matches, found 1. Published:\n  1. ')
    })
  )
})
