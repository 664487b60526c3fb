import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/TestClock"
import * as TestContext from "effect/TestContext"
import * as Tracer from "effect/Tracer"
import * as Event from "../../src/Event.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import { transaction } from "../../src/Transaction.ts"
import * as Environment from "../support/environment.ts"

const UserCreated = Event.define({
  eventType: "user_created",
  metadataVersion: 2,
  eventContext: Schema.Struct({
    userId: Schema.Number,
    nickname: Schema.optional(Schema.String),
    registeredAt: Schema.optional(Schema.Date)
  })
})

const event = (eventType: string) => Event.make({ eventType, eventContext: {} })

const stored = (eventType: string) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) => sql`SELECT * FROM outbox.event WHERE event_type = ${eventType} ORDER BY id`
  )

/** What a program does: a row of its own and an event about it. */
const register = (name: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql`INSERT INTO users (name) VALUES (${name})`
    yield* EventPublisher.publish(event(name))
  })

/** Of the users, those with a row and those with an event: the same, or it is no outbox. */
const registered = (...names: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const rows = yield* sql`SELECT name FROM users WHERE name = ANY (${names}) ORDER BY name`
    const events = yield* sql`SELECT event_type FROM outbox.event WHERE event_type = ANY (${names}) ORDER BY event_type`
    return { rows: rows.map(({ name }) => name), events: events.map(({ event_type }) => event_type) }
  })

/** The names of the spans that `effect` opens. */
const spansOf = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const tracer = yield* Effect.tracer
    const names: Array<string> = []
    const recording = Tracer.make({
      ...tracer,
      span: (name, ...rest) => {
        names.push(name)
        return tracer.span(name, ...rest)
      }
    })
    return [yield* Effect.withTracer(effect, recording), names] as const
  })

const createUsers = Layer.effectDiscard(
  Effect.flatMap(SqlClient.SqlClient, (sql) => sql`CREATE TABLE users (name text PRIMARY KEY)`)
)

layer(createUsers.pipe(Layer.provideMerge(Environment.layer())), { excludeTestServices: true })((it) => {
  it.effect("Publishing in a transaction commits the event with the row, or neither", () =>
    Effect.gen(function* () {
      yield* transaction(register("ada"))
      yield* Effect.exit(transaction(Effect.zipRight(register("bob"), Effect.fail("failure"))))
      yield* Effect.exit(transaction(Effect.zipRight(register("cid"), Effect.die("defect"))))
      yield* Effect.exit(transaction(Effect.zipRight(register("dan"), Effect.interrupt)))
      expect(yield* registered("ada", "bob", "cid", "dan")).toEqual({ rows: ["ada"], events: ["ada"] })
    })
  )

  it.effect("Publishing in a transaction writes nothing when another fiber interrupts it", () =>
    Effect.gen(function* () {
      const done = yield* Deferred.make<void>()
      const fiber = yield* Effect.fork(
        transaction(
          register("eve").pipe(Effect.zipRight(Deferred.succeed(done, undefined)), Effect.zipRight(Effect.never))
        )
      )
      yield* Deferred.await(done)
      yield* Fiber.interrupt(fiber)
      expect(yield* registered("eve")).toEqual({ rows: [], events: [] })
    })
  )

  it.effect(
    "Publishing in a transaction undoes what a nested transaction published if that one is undone, and only that",
    () =>
      Effect.gen(function* () {
        yield* transaction(
          Effect.gen(function* () {
            yield* register("fay")
            yield* Effect.ignore(transaction(Effect.zipRight(register("gus"), Effect.fail("handled"))))
            yield* transaction(register("hal"))
          })
        )
        expect(yield* registered("fay", "gus", "hal")).toEqual({ rows: ["fay", "hal"], events: ["fay", "hal"] })
      })
  )

  it.effect("Publishing in a transaction undoes what nested transactions published if the outer one is undone", () =>
    Effect.gen(function* () {
      yield* Effect.ignore(
        transaction(Effect.all([register("ida"), transaction(register("jim")), Effect.fail("failure")]))
      )
      expect(yield* registered("ida", "jim")).toEqual({ rows: [], events: [] })
    })
  )

  it.effect("Publishing in a transaction works the same with SqlClient.withTransaction", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql.withTransaction(register("kim"))
      yield* Effect.ignore(sql.withTransaction(Effect.zipRight(register("leo"), Effect.fail("failure"))))
      expect(yield* registered("kim", "leo")).toEqual({ rows: ["kim"], events: ["kim"] })
    })
  )

  it.effect("Publishing in a transaction can go on after an event was refused", () =>
    Effect.gen(function* () {
      const error = yield* transaction(Effect.zipLeft(Effect.flip(EventPublisher.publish(event(""))), register("mia")))
      expect(error).toMatchObject({ _tag: "EventInvalid" })
      expect(yield* registered("mia")).toEqual({ rows: ["mia"], events: ["mia"] })
    })
  )

  it.effect("Publishing outside of any transaction is committed at once", () =>
    Effect.gen(function* () {
      const id = yield* EventPublisher.publish(event("alone"))
      expect(yield* stored("alone")).toMatchObject([{ event_id: id }])
    })
  )

  {
    const numbered = (eventType: string, count: number) =>
      Array.from({ length: count }, (_, n) => Event.make({ eventType, eventContext: { n } }))

    it.effect("Publishing many events takes one round trip for 10,000, and returns their ids in their order", () =>
      Effect.gen(function* () {
        const [ids, spans] = yield* spansOf(EventPublisher.publishAll(numbered("many", 10_000)))
        expect(spans).toEqual(["EventPublisher.publishAll", "sql.execute"])
        const rows = yield* stored("many")
        expect(rows.map((row) => row.event_id)).toEqual(ids)
        expect(rows.map((row) => row.event_context)).toEqual(ids.map((_, n) => ({ n })))
      })
    )

    it.effect("Publishing many events takes 100,000 at once", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const ids = yield* EventPublisher.publishAll(numbered("very_many", 100_000))
        const [row] = yield* sql`
          SELECT count(DISTINCT event_id)::int AS events FROM outbox.event WHERE event_type = 'very_many'
        `
        expect([new Set(ids).size, row?.events]).toEqual([100_000, 100_000])
      })
    )

    it.effect("Publishing many events takes any iterable, once, and nothing at all for none", () =>
      Effect.gen(function* () {
        const [ids, spans] = yield* spansOf(EventPublisher.publishAll(new Set<Event.Event>()))
        expect([ids, spans]).toEqual([[], []])
        function* three() {
          yield* numbered("generated", 3)
        }
        expect(yield* EventPublisher.publishAll(three())).toHaveLength(3)
        expect(yield* stored("generated")).toHaveLength(3)
      })
    )

    it.effect("Publishing many events refuses all if one is refused, and names every problem of every event", () =>
      Effect.gen(function* () {
        const events = [
          event("refused"),
          Event.make({ eventType: "refused", eventContext: { n: Number.NaN }, environment: "" }),
          event("refused"),
          Event.make({ eventType: "refused", eventContext: {}, metadataVersion: -1 })
        ]
        const error = yield* Effect.flip(EventPublisher.publishAll(events))
        expect(error).toMatchObject({
          _tag: "EventInvalid",
          issues: [
            { index: 1, field: "environment" },
            { index: 1, field: "event_context.n" },
            { index: 3, field: "metadata_version" }
          ]
        })
        expect(error.message).toContain("Nothing was published")
        expect(yield* stored("refused")).toEqual([])
      })
    )
  }

  it.effect("Publishing fills in what is left out with a time-ordered uuid, also within a millisecond", () =>
    Effect.gen(function* () {
      const ids = yield* EventPublisher.publishAll(Array.from({ length: 1000 }, () => event("ordered")))
      expect([...ids].sort()).toEqual(ids)
      const [first] = ids
      expect(first).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
      const millis = Number.parseInt(first?.replaceAll("-", "").slice(0, 12) ?? "", 16)
      expect(Math.abs(millis - Date.now())).toBeLessThan(60_000)
    })
  )

  it.effect(
    "Publishing fills in what is left out with the Clock's time, the configured environment and version 1",
    () =>
      Effect.gen(function* () {
        const noon = new Date("2030-01-01T12:00:00.123Z")
        yield* Effect.zipRight(TestClock.setTime(noon), EventPublisher.publish(event("defaults"))).pipe(
          Effect.provide(TestContext.TestContext)
        )
        expect(yield* stored("defaults")).toMatchObject([
          { event_date_time: noon, environment: "test", metadata_version: "1" }
        ])
      })
  )

  it.effect("Publishing fills in what is left out but not what is given", () =>
    Effect.gen(function* () {
      const given = {
        eventId: "0192F0C1-2345-7000-8000-00000000ABCD",
        eventDateTime: DateTime.unsafeMake("1999-12-31T23:59:59.999Z"),
        environment: "staging"
      }
      const id = yield* EventPublisher.publish(
        Event.make({ ...given, eventType: "given", eventContext: {}, metadataVersion: 2n ** 63n - 1n })
      )
      // As Postgres and ClickHouse print it.
      expect(id).toBe(given.eventId.toLowerCase())
      expect(yield* stored("given")).toMatchObject([
        {
          event_id: id,
          event_date_time: new Date("1999-12-31T23:59:59.999Z"),
          environment: "staging",
          metadata_version: "9223372036854775807"
        }
      ])
    })
  )

  {
    const traceparent = Effect.gen(function* () {
      const id = yield* EventPublisher.publish(event("traced"))
      const sql = yield* SqlClient.SqlClient
      const [row] = yield* sql`SELECT traceparent FROM outbox.event WHERE event_id = ${id}`
      return row?.traceparent
    })

    const traceparentIn = (traceId: string) =>
      Effect.withParentSpan(traceparent, Tracer.externalSpan({ traceId, spanId: "00f067aa0ba902b7" }))

    it.effect(
      "Publishing keeps the trace of who published as a span of the current trace, with whether it is sampled",
      () =>
        Effect.gen(function* () {
          const span = yield* Effect.makeSpan("checkout")
          const inSpan = Effect.withParentSpan(traceparent, span)
          expect(yield* inSpan).toMatch(new RegExp(`^00-${span.traceId}-[0-9a-f]{16}-01$`))

          const tracer = yield* Effect.tracer
          const unsampled = Tracer.make({
            ...tracer,
            span: (...options) => Object.assign(tracer.span(...options), { sampled: false })
          })
          expect(yield* Effect.withTracer(inSpan, unsampled)).toMatch(
            new RegExp(`^00-${span.traceId}-[0-9a-f]{16}-00$`)
          )
        })
    )

    it.effect("Publishing keeps the trace of who published in W3C's notation, whatever notation it came in", () =>
      Effect.gen(function* () {
        expect(yield* traceparentIn("4BF92F3577B34DA6A3CE929D0E0E4736")).toMatch(
          /^00-4bf92f3577b34da6a3ce929d0e0e4736-.{16}-01$/
        )
        expect(yield* traceparentIn("a3ce929d0e0e4736")).toMatch(/^00-0000000000000000a3ce929d0e0e4736-.{16}-01$/)
      })
    )

    it.effect(
      "Publishing keeps the trace of who published unless there is none that could be kept: no request header makes publishing fail",
      () =>
        Effect.gen(function* () {
          expect(yield* traceparentIn("'; DROP TABLE")).toBeNull()
          expect(yield* traceparentIn("4bf92f3577b34da6a3ce929d0e0e4736".repeat(2))).toBeNull()
          expect(yield* Effect.withTracerEnabled(traceparent, false)).toBeNull()
        })
    )
  }

  it.effect("Publishing a defined event is encoded by its Schema, and undefined properties are left out", () =>
    Effect.gen(function* () {
      const registeredAt = new Date("2026-01-31T12:00:00Z")
      yield* EventPublisher.publish(UserCreated({ userId: 1, nickname: undefined, registeredAt }))
      expect(yield* stored("user_created")).toMatchObject([
        { event_context: { userId: 1, registeredAt: "2026-01-31T12:00:00.000Z" }, metadata_version: "2" }
      ])
    })
  )

  it.effect("Publishing a defined event is refused where its Schema refuses it, with every place", () =>
    Effect.gen(function* () {
      const Order = Event.define({
        eventType: "order_paid",
        eventContext: Schema.Struct({
          lines: Schema.Array(Schema.Struct({ count: Schema.Int, sku: Schema.NonEmptyString }))
        })
      })
      const error = yield* Effect.flip(
        EventPublisher.publish(
          Order({
            lines: [
              { count: 1, sku: "a" },
              { count: 0.5, sku: "" }
            ]
          })
        )
      )
      expect(error).toMatchObject({
        issues: [
          { index: 0, eventType: "order_paid", field: "event_context.lines.1.count" },
          { index: 0, eventType: "order_paid", field: "event_context.lines.1.sku" }
        ]
      })
    })
  )

  it.effect("Publishing a defined event takes only its shape", () =>
    Effect.sync(() => {
      // @ts-expect-error userId is missing
      UserCreated({ nickname: "ada" })
      // @ts-expect-error userId is a number
      UserCreated({ userId: "1" })
      // @ts-expect-error there is no email
      const event = UserCreated({ userId: 1, email: "ada@example.com" })
      expect(Either.getOrThrow(event.encode())).toEqual({ userId: 1 })
    })
  )
})
