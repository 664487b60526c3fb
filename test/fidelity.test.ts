/** What was published is what ClickHouse holds: through COPY's escapes, TabSeparated and the JSON column. */
import * as SqlClient from "@effect/sql/SqlClient"
import { describe, expect, layer } from "@effect/vitest"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import { ClickHouse } from "../src/ClickHouse.ts"
import * as Event from "../src/Event.ts"
import * as EventPublisher from "../src/EventPublisher.ts"
import * as Environment from "./support/environment.ts"
import { eventLog } from "./support/eventLog.ts"
import { drain } from "./support/relay.ts"

/** What TabSeparated, COPY, JSON or SQL could take for something else. */
const nasty = [
  ..."\t\n\r\b\f\v\\'\"`\u0001\u001f\u007f\u0085\u00a0\u2028\u2029\ufeff\ufffe\uffff\ufffd",
  ...["\\N", "\\t", "\\n", "\\.", "\\\\", "\\x41", "\\u0041", "NULL", "null", "nan", "inf", "true", "1", "0x10", "1e5"],
  ...["2024-01-01", "2024-01-01 00:00:00", "2024-01-01T00:00:00.123Z", "00:00:00", "127.0.0.1"],
  ...["a.b", "a..b", ".", "..", "a b", "a,b", "[]", "{}", "[1]", '{"a":1}', "(1,2)", "%", "$1", "{a:String}", "?"],
  ...[
    "__proto__",
    "constructor",
    "toString",
    "length",
    "é",
    "e\u0301",
    "ß",
    "İ",
    "👩‍👩‍👧",
    "𝒳",
    "\u{10ffff}",
    "中文",
    "שלום"
  ]
]

const text = FastCheck.oneof(
  FastCheck.constantFrom(...nasty),
  FastCheck.string({ unit: "binary", maxLength: 20 }).map((string) => string.replaceAll("\0", "")),
  FastCheck.array(FastCheck.constantFrom(...nasty), { minLength: 2, maxLength: 5 }).map((parts) => parts.join(""))
)

/** A key that holds %2E would be read back as a dot: see below. */
const key = FastCheck.oneof(text, FastCheck.constant("")).filter((key) => !key.includes("%2E"))

const number = FastCheck.oneof(
  FastCheck.maxSafeInteger(),
  FastCheck.double({ noNaN: true, noDefaultInfinity: true }).filter((n) => !Number.isInteger(n)),
  FastCheck.constantFrom(0, 1, -1, 0.1, 5e-324, -2.5e-10, 123456789.125)
)

/** One would become an empty array where another element is an array, in this or in another event: see below. */
const withoutNulls = (values: ReadonlyArray<Event.JsonValue>) => values.filter((value) => value !== null)

const { context } = FastCheck.letrec<{ context: Event.JsonObject; value: Event.JsonValue }>((tie) => ({
  context: FastCheck.dictionary(key, tie("value"), { maxKeys: 6, depthIdentifier: "json" }),
  value: FastCheck.oneof(
    { depthIdentifier: "json", depthSize: "small", withCrossShrink: true },
    FastCheck.oneof(text, number, FastCheck.boolean(), FastCheck.constant(null)),
    FastCheck.array(tie("value"), { maxLength: 5, depthIdentifier: "json" }).map(withoutNulls),
    tie("context")
  )
}))

/** What docs/architecture.md says that the JSON column does: null and empty objects vanish from objects. */
const asStored = (value: Event.JsonValue): Event.JsonValue => {
  if (Array.isArray(value)) return value.map(asStored)
  if (typeof value !== "object" || value === null) return value
  return Object.fromEntries(
    Object.entries(value).flatMap(([key, member]) => {
      const stored = asStored(member ?? null)
      return stored === null || isEmptyObject(stored) ? [] : [[key, stored]]
    })
  )
}

const isEmptyObject = (value: Event.JsonValue): boolean =>
  typeof value === "object" && value !== null && !Array.isArray(value) && Object.keys(value).length === 0

/** Text that is the same for the same JSON, whatever the order of its keys. */
const canonical = (value: unknown): string =>
  JSON.stringify(value, (_, member) =>
    typeof member === "object" && member !== null && !Array.isArray(member)
      ? Object.fromEntries(Object.entries(member).sort(([a], [b]) => (a < b ? -1 : 1)))
      : member
  )

layer(Environment.layer(), { excludeTestServices: true })("Every event arrives as it was published:", (it) => {
  const delivered = (events: ReadonlyArray<Event.Event>) =>
    Effect.gen(function* () {
      const ids = yield* EventPublisher.publishAll(events)
      yield* drain
      const rows = new Map((yield* eventLog).map((row) => [row.eventId, row]))
      return yield* Effect.forEach(ids, (id) => Effect.fromNullable(rows.get(id)))
    })

  it.effect("random documents full of escapes and corners of Unicode", () =>
    Effect.gen(function* () {
      const contexts = FastCheck.sample(context, 1_000)
      const rows = yield* delivered(
        contexts.map((eventContext) => Event.make({ eventType: "fidelity_tested", eventContext }))
      )
      for (const [eventContext, row] of Arr.zip(contexts, rows)) {
        expect(canonical(row.eventContext), JSON.stringify(eventContext)).toBe(canonical(asStored(eventContext)))
      }
    })
  )

  it.effect("any text as event type and environment", () =>
    Effect.gen(function* () {
      const names = [...nasty, ...FastCheck.sample(text, 300), "😀".repeat(255)].filter((name) => name !== "")
      const rows = yield* delivered(
        names.map((name) => Event.make({ eventType: name, environment: name, eventContext: {} }))
      )
      expect(rows.map(({ environment, eventType }) => ({ environment, eventType }))).toEqual(
        names.map((name) => ({ environment: name, eventType: name }))
      )
    })
  )

  it.effect("times to the microsecond from 1900 to 2299, whatever the database's own style, zone and encoding", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const microseconds = FastCheck.bigInt(-2_208_988_800_000_000n, 10_413_791_999_999_999n)
      const times = [
        ...["1900-01-01 00:00:00.000000", "1900-01-01 00:00:00.000001", "1969-12-31 23:59:59.999999"],
        ...["1970-01-01 00:00:00.000000", "2106-02-07 06:28:16.000000", "2299-12-31 23:59:59.999999"],
        ...FastCheck.sample(microseconds, 500).map(utc)
      ]
      const [database] = yield* sql<{ name: string }>`SELECT current_database() AS name`
      for (const setting of ["DateStyle = 'SQL, DMY'", "TimeZone = 'Asia/Kathmandu'", "client_encoding = 'LATIN1'"]) {
        yield* sql.unsafe(`ALTER DATABASE ${database?.name} SET ${setting}`)
      }
      yield* sql`
        SELECT outbox.publish('ä', '{}', (time || '+00')::timestamptz)
        FROM unnest(${times}::text[]) AS time
      `
      // Its connections are new, and have the database's settings.
      yield* Effect.provide(drain, Environment.another())
      const rows = yield* eventLog
      expect(rows.map((row) => row.eventDateTime)).toEqual(expect.arrayContaining(times))
      expect(rows).toHaveLength(times.length)
      expect(new Set(rows.map((row) => row.eventType))).toEqual(new Set(["ä"]))
    }).pipe(Environment.fresh({ OUTBOX_BATCH_EVENTS: "50" }))
  )

  it.effect("versions up to the largest", () =>
    Effect.gen(function* () {
      const versions = [0, 1, 2 ** 53 - 1, 2n ** 53n + 1n, 2n ** 63n - 1n]
      const rows = yield* delivered(
        versions.map((metadataVersion) => Event.make({ eventType: "versioned", metadataVersion, eventContext: {} }))
      )
      expect(rows.map((row) => row.metadataVersion)).toEqual(versions.map(String))
    })
  )

  it.effect("a context of 1 MiB, and one with 500 levels", () =>
    Effect.gen(function* () {
      const large = { text: "ß".repeat(524_281) }
      const deep = Arr.reduce(Arr.range(1, 500), { bottom: true }, (below: Event.JsonObject, n) => ({
        [`k${n}`]: below
      }))
      const rows = yield* delivered(
        [large, deep].map((eventContext) => Event.make({ eventType: "weighty", eventContext }))
      )
      expect(rows.map((row) => row.eventContext)).toEqual([large, deep])
    })
  )

  describe("with what docs/architecture.md says that the JSON column changes:", () => {
    const cases = {
      "null and empty objects in an object vanish": ['{"a": null, "b": {"c": {}}, "d": 1}', '{"d":1}'],
      "they stay in an array": ['{"a": [null, {}, 1]}', '{"a":[null,{},1]}'],
      "but null beside arrays becomes an empty one": ['{"a": [[1], null]}', '{"a":[[1],[]]}'],
      "booleans stay booleans": ['{"a": [true, 2, "x"], "b": [[true], [2]]}', '{"a":[true,2,"x"],"b":[[true],[2]]}'],
      "whole numbers are exact up to 64 bits": [
        '{"a": 18446744073709551615, "b": [-9223372036854775808, 9007199254740993]}',
        '{"a":18446744073709551615,"b":[-9223372036854775808,9007199254740993]}'
      ],
      "beside fractions in an array they are Float64": [
        '{"a": [9007199254740993, 0.5]}',
        '{"a":[9007199254740992,0.5]}'
      ],
      "fractions are Float64": ['{"a": 12345678901234567890.5, "b": 1.10}', '{"a":12345678901234567000,"b":1.1}'],
      "strings that look like something else stay strings": [
        '{"a": ["2024-01-01", "12"], "b": "2024-01-01T00:00:00Z"}',
        '{"a":["2024-01-01","12"],"b":"2024-01-01T00:00:00Z"}'
      ],
      "a dot in a key is no path": ['{"a": {"b": 1}, "a.b": 2}', '{"a.b":2,"a":{"b":1}}'],
      "but %2E in a key is a dot": ['{"a%2Eb": 1}', '{"a.b":1}']
    }
    for (const [promise, [published, stored]] of Object.entries(cases)) {
      it.effect(promise, () =>
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const clickHouse = yield* ClickHouse
          const [event] = yield* sql<{ id: string }>`SELECT outbox.publish('changed', ${published}::jsonb) AS id`
          yield* drain
          const rows = yield* clickHouse.query(
            `SELECT toJSONString(event_context)
             FROM event_log
             WHERE event_id = {id:UUID}
             SETTINGS json_type_escape_dots_in_keys = 1`,
            { id: event?.id ?? "" }
          )
          expect(rows).toEqual([[stored]])
        })
      )
    }
  })
})

/** Microseconds since 1970 as ClickHouse prints them. */
const utc = (microseconds: bigint): string => {
  const below = ((microseconds % 1_000n) + 1_000n) % 1_000n
  const [date, time] = new Date(Number((microseconds - below) / 1_000n)).toISOString().split(/[TZ]/)
  return `${date} ${time}${String(below).padStart(3, "0")}`
}
