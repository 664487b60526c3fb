/** What cannot be published, who finds it, and how it is said. */
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as fc from "effect/FastCheck"
import * as Schema from "effect/Schema"
import * as Event from "../../src/Event.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import { transaction } from "../../src/Transaction.ts"
import * as Environment from "../support/environment.ts"

/** An event whose context may be anything, as a Schema that is not strict lets it through. */
const Anything = Event.define({ eventType: "anything", eventContext: Schema.Unknown })

const event = (fields: Partial<Parameters<typeof Event.make>[0]>) =>
  Event.make({ eventType: "refused", eventContext: {}, ...fields })

const nested = (levels: number): Event.JsonValue => {
  let value: Event.JsonValue = 1
  for (let level = 0; level < levels; level++) value = level % 2 === 0 ? { a: value } : [value]
  return { a: value }
}

/** Mostly valid, and where it is not, close to the border. */
const arbitrary = (() => {
  const usual = fc.constantFrom("a", "B", "7", "é", "😀", " ", '"', "\\", "\n", "\u0001", "\u007f", "{", "}", ",")
  const text = (...unusual: ReadonlyArray<string>) =>
    fc.string({ unit: fc.oneof({ weight: 300, arbitrary: usual }, fc.constantFrom(...unusual)), maxLength: 8 })
  // SQL cannot be told an unpaired surrogate, except in JSON.
  const name = fc.oneof(
    { weight: 20, arbitrary: text("\0") },
    fc.integer({ min: 250, max: 260 }).map((length) => "ß".repeat(length))
  )
  const json = fc.letrec((tie) => ({
    value: fc.oneof(
      { depthSize: "small" },
      fc.constantFrom(null, true, false, 0, -0, 1e21, 1e-7),
      fc.double({ noNaN: true, noDefaultInfinity: true }),
      text("\0", "\ud800", "\udfff"),
      fc.array(tie("value"), { maxLength: 4 }),
      tie("object")
    ),
    object: fc.dictionary(text("\0", "\ud800"), tie("value"), { maxKeys: 5 })
  }))
  return {
    eventType: name,
    environment: name,
    eventContext: fc.oneof(
      { weight: 30, arbitrary: json.object },
      { weight: 2, arbitrary: json.value },
      fc.integer({ min: 990, max: 1010 }).map(nested),
      fc.integer({ min: 1_048_560, max: 1_048_580 }).map((length) => ({ a: "x".repeat(length) })),
      fc.integer({ min: 3000, max: 4000 }).map((length) => ({ a: Array.from({ length }, () => 1.5e300) }))
    ),
    metadataVersion: fc.oneof(
      { weight: 10, arbitrary: fc.bigInt({ min: -1n, max: 100n }) },
      fc.bigInt({ min: 2n ** 63n - 10n, max: 2n ** 63n }),
      fc.constantFrom(1, 7, 0.5)
    ),
    eventDateTime: fc.oneof(
      { weight: 20, arbitrary: fc.date({ min: new Date("1900-01-01"), max: new Date("2299-12-31") }) },
      fc.date({ min: new Date("1899-12-31T23:59:59.990Z"), max: new Date("1900-01-01T00:00:00.010Z") }),
      fc.date({ min: new Date("2299-12-31T23:59:59.990Z"), max: new Date("2300-01-01T00:00:00.010Z") }),
      fc.date({ noInvalidDate: false })
    )
  }
})()

/** Its JSON is itself, and that holds more that makes JSON of itself. */
class Visit {
  readonly at = new Date("2026-01-31")
  toJSON() {
    return this
  }
}

const circular: Record<string, unknown> = {}
circular.self = circular

const storedCount = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<{ count: number }>`SELECT count(*)::int AS count FROM outbox.event`
  return row?.count
})

layer(Environment.layer(), { excludeTestServices: true })((it) => {
  const refuses = (what: string, refused: Event.Event, field: string, reason: string) =>
    it.effect(what, () =>
      Effect.gen(function* () {
        const before = yield* storedCount
        const error = yield* Effect.flip(EventPublisher.publishAll([event({}), refused]))
        expect(error).toMatchObject({
          _tag: "EventInvalid",
          issues: [{ index: 1, eventType: refused.eventType, field }]
        })
        expect(error.message).toContain(reason)
        expect(yield* storedCount).toBe(before)
      })
    )

  {
    const [type, characters] = ["event_type", "must have 1 to 255 characters, not"]
    refuses("an event type that is empty", event({ eventType: "" }), type, `${characters} 0`)
    refuses("an event type that is too long", event({ eventType: "ä".repeat(256) }), type, `${characters} 256`)
    refuses("an environment that is empty", event({ environment: "" }), "environment", `${characters} 0`)
    refuses("one that is not text to Postgres", event({ eventType: "a\0b" }), type, "U+0000")
    refuses("one that is not Unicode", event({ environment: "\ud800" }), "environment", "unpaired surrogate")
  }

  {
    const [version, range] = ["metadata_version", "must be a whole number from 0 to 9223372036854775807"]
    refuses("a version that is negative", event({ metadataVersion: -1 }), version, range)
    refuses("a version that is not whole", event({ metadataVersion: 1.5 }), version, range)
    refuses("a version that JavaScript may have rounded", event({ metadataVersion: 2 ** 53 }), version, range)
    refuses("a version that is too large", event({ metadataVersion: 2n ** 63n }), version, range)
    const [time, years] = ["event_date_time", "must be a time from 1900-01-01 to 2299-12-31"]
    refuses("a time that is too early", event({ eventDateTime: new Date("1899-12-31T23:59:59.999Z") }), time, years)
    refuses("a time that is too late", event({ eventDateTime: new Date("2300-01-01T00:00:00Z") }), time, years)
    refuses("a Date that is invalid", event({ eventDateTime: new Date(Number.NaN) }), time, years)
    refuses("an id that is none", event({ eventId: "42" }), "event_id", 'must be a uuid, not "42"')
  }

  {
    const context = "event_context"
    refuses("an array", Anything([1]), context, "must be a JSON object")
    refuses("null", Anything(null), context, "must be a JSON object")
    refuses("undefined", Anything(undefined), context, "undefined is not JSON")
    refuses("a Map", Anything(new Map([["a", 1]])), context, "a Map or Set is not JSON")
    refuses("one with a Set", Anything({ tags: new Set([1]) }), "event_context.tags", "a Map or Set is not JSON")
    refuses("one with NaN", Anything({ a: [{ b: Number.NaN }] }), "event_context.a.0.b", "NaN is not a JSON number")
    refuses("one with a bigint", Anything({ id: 1n }), "event_context.id", "bigint is not JSON")
    refuses("one with a function", Anything({ call: () => 1 }), "event_context.call", "function is not JSON")
    refuses("one with a hole", Anything({ list: [1, undefined] }), "event_context.list.1", "undefined is not JSON")
    refuses(
      "one with an invalid Date",
      Anything({ at: new Date("?") }),
      "event_context.at",
      "an invalid Date is not JSON"
    )
    refuses("one with U+0000", Anything({ text: "a\0b" }), "event_context.text", "U+0000")
    refuses("one with U+0000 in a key", Anything({ "a\0b": 1 }), "event_context.a\0b", "U+0000")
    refuses("one that is not Unicode", Anything({ text: "\udc00" }), "event_context.text", "unpaired surrogate")
    refuses("one that contains itself", Anything(circular), context, "or contains itself")
    refuses("one that is too deep", Anything(nested(1000)), context, "nested deeper than 1000 levels")
    refuses("one that is too large", Anything({ a: "ä".repeat(524_288) }), context, "has 1048584")
  }

  it.effect(
    "Publishing refuses, and writes nothing with, but not names of 255 characters, however many bytes they take",
    () => EventPublisher.publish(event({ eventType: "😀".repeat(255), environment: "x".repeat(255) }))
  )

  it.effect("Publishing refuses, and writes nothing with, but not contexts of 1000 levels, or of 1 MiB", () =>
    // Postgres writes a space after the colon.
    EventPublisher.publishAll([Anything(nested(999)), Anything({ a: "x".repeat(1_048_576 - '{"a": ""}'.length) })])
  )

  it.effect("Publishing refuses, and writes nothing with, but not what is JSON by its toJSON", () =>
    Effect.gen(function* () {
      const id = yield* EventPublisher.publish(Anything({ visit: new Visit() }))
      const sql = yield* SqlClient.SqlClient
      expect(yield* sql`SELECT event_context FROM outbox.event WHERE event_id = ${id}`).toEqual([
        { event_context: { visit: { at: "2026-01-31T00:00:00.000Z" } } }
      ])
    })
  )

  {
    // As JavaScript writes it 9 bytes each, as Postgres does 302.
    const numbers = { numbers: Array.from({ length: 4000 }, () => 1.5e300) }

    it.effect(
      "Publishing refuses, and writes nothing with, what only Postgres finds, as an issue of the event it is in",
      () =>
        Effect.gen(function* () {
          const before = yield* storedCount
          const error = yield* Effect.flip(EventPublisher.publishAll([event({}), Anything(numbers), event({})]))
          expect(error).toMatchObject({
            _tag: "EventInvalid",
            issues: [
              {
                index: 1,
                eventType: "anything",
                field: "event_context",
                reason: "must not exceed 1048576 bytes as Postgres writes JSON"
              }
            ]
          })
          expect(yield* storedCount).toBe(before)
        })
    )

    it.effect(
      "Publishing refuses, and writes nothing with, what only Postgres finds, and only the transaction around it knows that it is over",
      () =>
        Effect.gen(function* () {
          const swallowed = Effect.ignore(EventPublisher.publish(Anything(numbers)))
          expect(yield* Effect.flip(transaction(swallowed))).toMatchObject({ reason: "RolledBack" })
          yield* transaction(Effect.ignore(transaction(swallowed)))
        })
    )
  }

  it.effect.prop(
    "Publishing refuses, and writes nothing with, exactly what outbox.publish refuses, and else both write the same",
    arbitrary,
    ({ eventContext, eventDateTime, ...fields }) =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const time = Number.isNaN(eventDateTime.getTime()) ? "none" : eventDateTime.toISOString()
        const inSql = yield* Effect.either(sql<{ id: string }>`
          SELECT outbox.publish(
            event_type => ${fields.eventType},
            event_context => ${JSON.stringify(eventContext)}::jsonb,
            event_date_time => ${time}::timestamptz,
            environment => ${fields.environment},
            metadata_version => ${String(fields.metadataVersion)}::bigint
          ) AS id
        `)
        const published = yield* Effect.either(
          EventPublisher.publish({ ...fields, eventDateTime, encode: () => Either.right(eventContext) })
        )
        if (Either.isLeft(published)) expect(published.left._tag).toBe("EventInvalid")
        expect(Either.isRight(published)).toBe(Either.isRight(inSql))
        const ids = Arr.getRights([Either.map(inSql, ([row]) => row?.id), published])
        const written = yield* sql`
          SELECT event_type, event_context, event_date_time, environment, metadata_version
          FROM outbox.event
          WHERE event_id = ANY (${ids})
        `
        expect(written[0]).toEqual(written[1])
      }),
    { fastCheck: { numRuns: 200 } }
  )
})
