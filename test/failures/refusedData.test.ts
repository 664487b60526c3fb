/** Every event ends in ClickHouse or in a failure, whole: never in neither, never in both. */
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import { ClickHouse } from "../../src/ClickHouse.ts"
import { asStored, canonical, context } from "../support/documents.ts"
import * as Environment from "../support/environment.ts"
import { counts, eventLog } from "../support/eventLog.ts"
import { drain } from "../support/relay.ts"
import { isWhole } from "../support/whole.ts"

/** Through SQL, as JSON text: JavaScript would have rounded what is to be refused. */
const publish = (contexts: ReadonlyArray<string>) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) => sql<{ id: string }>`
      SELECT outbox.publish_all(array_fill('refused_data_tested'::text, ARRAY[${contexts.length}]::integer[]), ${contexts}::jsonb[])
        AS id
    `
  ).pipe(Effect.map(Arr.map(({ id }) => id)))

/** The refused events; whether they are to the last digit what was published is for Postgres to say. */
const refused = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql<{ id: string; code: number; message: string; whole: boolean }>`
    SELECT
      failed.event_id AS id,
      failed.error_code AS code,
      failed.error_message AS message,
      to_jsonb(copied) - '{failure_id,corrected_at,replayed_at}'::text[] = to_jsonb(event) AS whole
    FROM outbox.failed_event AS failed
    JOIN outbox.batch_failure_event AS copied USING (failure_id, event_id)
    JOIN outbox.event AS event USING (event_id)
  `
)

const command = (statement: string) => Effect.flatMap(ClickHouse, (clickHouse) => clickHouse.command(statement))

/** Between good events: they arrive, and it becomes a failure of its own, as it was published. */
const isIsolated = (context: string, expected: { readonly code: number; readonly says: string }) =>
  Effect.gen(function* () {
    const good = Arr.makeBy(20, (n) => `{"good": ${n}}`)
    const ids = yield* publish([...good.slice(0, 7), context, ...good.slice(7)])
    yield* drain
    expect(yield* refused).toEqual([
      { id: ids[7], code: expected.code, message: expect.stringContaining(expected.says), whole: true }
    ])
    expect((yield* eventLog).map(({ eventId }) => eventId).sort()).toEqual(Arr.remove(ids, 7).sort())
  })

layer(Environment.layer(), { excludeTestServices: true })("An event that ClickHouse refuses", (it) => {
  {
    const values = {
      "an integer above UInt64": '{"n": 18446744073709551616}',
      "an integer below Int64": '{"n": -9223372036854775809}',
      "such an integer in an array": '{"n": [1, 18446744073709551616]}',
      "such an integer deep inside": '{"a": [{"b": {"c": [[-9223372036854775809]]}}]}',
      "a whole number that JavaScript writes as 1e+30": '{"n": 1e30}',
      "a number above Float64": '{"x": 1e400}',
      "a fraction below Float64": '{"x": -1.5e400}',
      "such a number in an array": '{"x": [0.5, 1e309]}'
    }
    for (const [what, value] of Object.entries(values)) {
      it.effect(
        `An event that ClickHouse refuses because the JSON type cannot hold it (${what}) is isolated whole, and the rest of its batch arrives`,
        () => Environment.fresh()(isIsolated(value, { code: 117, says: "(at row" }))
      )
    }
  }

  it.effect("An event that ClickHouse refuses because the table is stricter (a typed path) is isolated", () =>
    Effect.gen(function* () {
      yield* command("ALTER TABLE event_log MODIFY COLUMN event_context JSON(max_dynamic_paths = 256, typed UInt8)")
      yield* isIsolated('{"typed": "no number"}', { code: 117, says: "typed" })
    }).pipe(Environment.fresh())
  )

  it.effect("An event that ClickHouse refuses because the table is stricter (a CHECK constraint) is isolated", () =>
    Effect.gen(function* () {
      yield* command(
        "ALTER TABLE event_log ADD CONSTRAINT small CHECK ifNull(event_context.weight::Nullable(Int64), 0) < 10"
      )
      yield* isIsolated('{"weight": 11}', { code: 469, says: "small" })
    }).pipe(Environment.fresh())
  )

  it.effect(
    "An event that ClickHouse refuses because the table is stricter (an object, where it is none) is isolated, though it came past outbox.publish",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* publish(["{}"])
        yield* sql`INSERT INTO outbox.event (event_type, environment, event_context, context_bytes) VALUES ('a', 'b', '[1e400]', 7)`
        yield* drain
        expect(yield* refused).toMatchObject([{ code: 117, whole: true }])
        expect(yield* counts).toEqual({ rows: 1, events: 1 })
      }).pipe(Environment.fresh())
  )

  it.effect(
    "An event that ClickHouse refuses because the table is stricter (an object, where it is none, whose weight somebody understated) is isolated as well",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* publish(["{}"])
        yield* sql`
          INSERT INTO outbox.event (event_type, environment, event_context, context_bytes)
          VALUES ('a', 'b', to_json(repeat('x', 2000000)), 2)
        `
        yield* drain
        expect(yield* refused).toMatchObject([{ code: 117, whole: true }])
        expect(yield* counts).toEqual({ rows: 1, events: 1 })
      }).pipe(Environment.fresh())
  )

  it.effect("An event that ClickHouse refuses because the table is stricter (an Enum for the type) is isolated", () =>
    Effect.gen(function* () {
      yield* command("ALTER TABLE event_log MODIFY COLUMN environment Enum('production')")
      const sql = yield* SqlClient.SqlClient
      yield* publish(["{}"])
      yield* sql`SELECT outbox.publish('refused_data_tested', '{}', environment => 'staging')`
      yield* drain
      expect(yield* refused).toMatchObject([{ code: 691, whole: true }])
      expect(yield* counts).toEqual({ rows: 1, events: 1 })
    }).pipe(Environment.fresh())
  )
})

/** Each of them, wherever it stands in a document, makes ClickHouse refuse it. */
const poison = FastCheck.constantFrom(
  "18446744073709551616",
  "-9223372036854775809",
  "123456789012345678901234567890",
  "1e309",
  "-1e400",
  "[1, 18446744073709551616]",
  '{"deeper": {"n": 1e30}}'
)

/** A document as JSON text; now and then with one of the values that ClickHouse refuses among its members. */
const document = FastCheck.record({
  good: context,
  bad: FastCheck.oneof({ weight: 299, arbitrary: FastCheck.constant(null) }, { weight: 1, arbitrary: poison }),
  key: FastCheck.string({ minLength: 1, maxLength: 8 }).filter((key) => !/[\0\ud800-\udfff]/.test(key))
})

const DOCUMENTS = isWhole ? 10_000 : 4_000

layer(Environment.layer({ OUTBOX_REFUSED_EVENTS_LIMIT: "1000" }), { excludeTestServices: true })(
  `Of ${DOCUMENTS.toLocaleString("en")} random documents`,
  (it) => {
    it.effect(
      `Of ${DOCUMENTS.toLocaleString("en")} random documents, mixed with what ClickHouse refuses, each arrives as it was published or is a failure, exactly`,
      () =>
        Effect.gen(function* () {
          const documents = FastCheck.sample(document, DOCUMENTS).map(({ bad, good, key }) => {
            const json = JSON.stringify(good)
            const isBad = bad !== null && !(key in good)
            const member = `${JSON.stringify(key)}: ${bad}`
            return { good, isBad, json: isBad ? `{${member}${json === "{}" ? "" : ","}${json.slice(1)}` : json }
          })
          const ids = yield* publish(documents.map(({ json }) => json))
          yield* drain
          const failures = yield* refused
          expect(failures.filter(({ whole }) => !whole)).toEqual([])
          const failed = new Set(failures.map(({ id }) => id))
          const rows = new Map((yield* eventLog).map((row) => [row.eventId, row.eventContext]))
          expect(rows.size + failed.size).toBe(DOCUMENTS)
          expect(yield* counts).toEqual({ rows: rows.size, events: rows.size })
          expect(failures).toHaveLength(failed.size)
          for (const [{ good, isBad, json }, id] of Arr.zip(documents, ids)) {
            expect(failed.has(id), json).toBe(isBad)
            if (!isBad) expect(canonical(rows.get(id)), json).toBe(canonical(asStored(good)))
          }
          expect(failed.size).toBeGreaterThan(0)
        })
    )
  }
)
