/** What was published is what ClickHouse holds: through COPY's escapes, TabSeparated and the JSON column. */
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import { ClickHouse } from "../../src/ClickHouse.ts"
import * as Event from "../../src/Event.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import { asStored, canonical, context, nasty, text } from "../support/documents.ts"
import * as Environment from "../support/environment.ts"
import { eventLog } from "../support/eventLog.ts"
import { drain } from "../support/relay.ts"

layer(Environment.layer(), { excludeTestServices: true })((it) => {
  const delivered = (events: ReadonlyArray<Event.Event>) =>
    Effect.gen(function* () {
      const ids = yield* EventPublisher.publishAll(events)
      yield* drain
      const rows = new Map((yield* eventLog).map((row) => [row.eventId, row]))
      return yield* Effect.forEach(ids, (id) => Effect.fromNullable(rows.get(id)))
    })

  it.effect("Every event arrives as it was published: random documents full of escapes and corners of Unicode", () =>
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

  it.effect("Every event arrives as it was published: any text as event type and environment", () =>
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

  it.effect(
    "Every event arrives as it was published: times to the microsecond from 1900 to 2299, whatever the database's own style, zone and encoding",
    () =>
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

  it.effect("Every event arrives as it was published: versions up to the largest", () =>
    Effect.gen(function* () {
      const versions = [0, 1, 2 ** 53 - 1, 2n ** 53n + 1n, 2n ** 63n - 1n]
      const rows = yield* delivered(
        versions.map((metadataVersion) => Event.make({ eventType: "versioned", metadataVersion, eventContext: {} }))
      )
      expect(rows.map((row) => row.metadataVersion)).toEqual(versions.map(String))
    })
  )

  it.effect("Every event arrives as it was published: a context of 1 MiB, and one with 500 levels", () =>
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

  {
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
      "floats too near to 0 become 0": ['{"a": 1e-789}', '{"a":0}'],
      "strings that look like something else stay strings": [
        '{"a": ["2024-01-01", "12"], "b": "2024-01-01T00:00:00Z"}',
        '{"a":["2024-01-01","12"],"b":"2024-01-01T00:00:00Z"}'
      ],
      "a dot in a key is no path": ['{"a": {"b": 1}, "a.b": 2}', '{"a.b":2,"a":{"b":1}}'],
      "but %2E in a key is a dot": ['{"a%2Eb": 1}', '{"a.b":1}']
    }
    const neighbours = {
      "whole numbers in an array lose digits if an array under the same key has a fraction": [
        ['{"ids": [0.5]}', '{"ids": [9007199254740993]}'],
        ['{"ids":[0.5]}', '{"ids":[9007199254740992]}']
      ],
      "null in an array becomes an empty object if an array under the same key has one": [
        ['{"items": [{"x": 1}]}', '{"items": [null]}'],
        ['{"items":[{"x":1}]}', '{"items":[{}]}']
      ]
    }
    for (const [promise, [published = [], stored]] of Object.entries(neighbours)) {
      it.effect(
        `Every event arrives as it was published: with what docs/architecture.md says that the JSON column changes: ${promise}, of whatever event of the batch`,
        () =>
          Effect.gen(function* () {
            const sql = yield* SqlClient.SqlClient
            const clickHouse = yield* ClickHouse
            yield* sql`
            SELECT outbox.publish('neighbour_' || n, context::jsonb, now() + n * interval '1 second')
            FROM unnest(${published}::text[]) WITH ORDINALITY AS published (context, n)
          `
            yield* drain
            const rows = yield* clickHouse.query(
              "SELECT toJSONString(event_context) FROM event_log ORDER BY event_type"
            )
            expect(rows.flat()).toEqual(stored)
          }).pipe(Environment.fresh())
      )
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
  }
})

/** Microseconds since 1970 as ClickHouse prints them. */
const utc = (microseconds: bigint): string => {
  const below = ((microseconds % 1_000n) + 1_000n) % 1_000n
  const [date, time] = new Date(Number((microseconds - below) / 1_000n)).toISOString().split(/[TZ]/)
  return `${date} ${time}${String(below).padStart(3, "0")}`
}
