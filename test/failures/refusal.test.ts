/** What ClickHouse or the outbox itself refuses: it is said why, nothing is lost, and others are not blocked up. */
import { readFileSync } from "node:fs"
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { ClickHouse } from "../../src/ClickHouse.ts"
import * as Event from "../../src/Event.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import { codes } from "../../src/SinkError.ts"
import * as Environment from "../support/environment.ts"
import { counts, eventLog } from "../support/eventLog.ts"
import { batches, isDelivered, type ManifestRow } from "../support/manifest.ts"
import * as Relay from "../support/relay.ts"
import { until } from "../support/wait.ts"

const event = (eventContext: Event.JsonObject) => Event.make({ eventType: "refusal_tested", eventContext })

/** One batch each: the limit of bytes is below the weight of any. */
const publishApart = (contexts: ReadonlyArray<Event.JsonObject>) => EventPublisher.publishAll(contexts.map(event))

/** jsonb writes it as a whole number, and ClickHouse's JSON holds none beyond 64 bits. */
const REFUSED = { n: 1e30 }

const command = (statement: string) => Effect.flatMap(ClickHouse, (clickHouse) => clickHouse.command(statement))

const blocked = Effect.map(
  batches,
  Arr.filter(({ state }) => state === "blocked")
)

const isFailed = ({ state }: ManifestRow) => state === "failed"

/** Nothing will be sent of it any more. */
const isDone = ({ state }: ManifestRow) => /^(delivered|failed|split)$/.test(state)

/** Tries again soon, and makes a batch of each event. */
const soon = {
  OUTBOX_LINGER: "10 millis",
  OUTBOX_BATCH_BYTES: "1",
  OUTBOX_RETRY_BASE: "20 millis",
  OUTBOX_RETRY_CAP: "100 millis"
}

layer(Environment.layer(), { excludeTestServices: true })((it) => {
  it.effect("What is refused is known by ClickHouse's own names for its codes", () =>
    Effect.gen(function* () {
      const clickHouse = yield* ClickHouse
      const names = yield* clickHouse.query(
        `SELECT code, errorCodeToName(code) FROM (SELECT arrayJoin([${codes.map(([code]) => code).join()}]) AS code)`
      )
      expect(names).toEqual(codes.map(([code, name]) => [code, name]))
    })
  )

  it("What is refused is explained in docs/failures.md, each code with its class and the reason for it", () => {
    const documented = readFileSync(new URL("../../docs/failures.md", import.meta.url), "utf8").matchAll(
      /^\| (\d+) \| ([A-Z0-9_]+) \| ([a-z-]+) \| (.+) \|$/gm
    )
    expect(Array.from(documented, ([, ...cells]) => cells)).toEqual(
      codes.map(([code, name, { errorClass }, why]) => [String(code), name, errorClass, why])
    )
  })

  it.effect(
    "What is refused because of its data becomes a failure with ClickHouse's own words, while other batches pass",
    () =>
      Effect.gen(function* () {
        yield* Relay.start()
        yield* publishApart([{ n: 1 }, REFUSED, { n: 2 }, { n: 3 }])
        const all = yield* until(batches, (all) => all.length === 4 && all.every(isDone))
        expect(all.filter(isDelivered)).toHaveLength(3)
        const [refused] = all.filter(isFailed)
        expect(refused).toMatchObject({ error_class: "data", error_code: 117, attempts: 1 })
        expect(refused?.error_message).toContain("(at row 1)")
        expect((yield* eventLog).map((row) => row.eventContext)).toEqual([{ n: 1 }, { n: 2 }, { n: 3 }])
      }).pipe(Environment.fresh(soon))
  )

  it.effect(
    "What is refused because of its data is named by its row, also when that row is long, and with no other event's words",
    () =>
      Effect.gen(function* () {
        yield* Relay.start()
        const long = { ...REFUSED, text: "x".repeat(1_000_000) }
        yield* EventPublisher.publishAll([
          ...Arr.makeBy(6, (n) => event({ n, text: "a neighbour's" })),
          event(long),
          event({ n: 8 })
        ])
        const [refused] = yield* until(batches, (all) => all.length > 1 && all.every(isDone))
        expect(refused).toMatchObject({ state: "split", error_class: "data", error_code: 117, attempts: 1 })
        expect(refused?.error_message).toContain("(at row 7)")
        expect(refused?.error_message).not.toContain("neighbour")
        expect(yield* counts).toEqual({ rows: 7, events: 7 })
      }).pipe(Environment.fresh({ OUTBOX_LINGER: "10 millis" }))
  )

  it.effect(
    "What is refused because of its data is told so even if ClickHouse refuses its first row while 20 MB are on their way",
    () =>
      Effect.gen(function* () {
        yield* Relay.start()
        yield* EventPublisher.publishAll([
          event(REFUSED),
          ...Arr.makeBy(10_000, (n) => event({ n, text: "x".repeat(2_000) }))
        ])
        const [refused] = yield* until(batches, (all) => all.length > 1 && all.every(isDone))
        expect(refused).toMatchObject({ state: "split", error_class: "data", error_code: 117, attempts: 1 })
        expect(refused?.error_message).toContain("(at row 1)")
        expect(yield* counts).toEqual({ rows: 10_000, events: 10_000 })
      }).pipe(Environment.fresh({ OUTBOX_LINGER: "10 millis" }))
  )

  {
    const breakages = {
      "a table that de-duplicates nothing": {
        spoil: "ALTER TABLE event_log MODIFY SETTING non_replicated_deduplication_window = 0",
        repair: "ALTER TABLE event_log MODIFY SETTING non_replicated_deduplication_window = 10000",
        says: "ALTER TABLE event_log MODIFY SETTING non_replicated_deduplication_window = 10000"
      },
      "a table that is missing": {
        spoil: "RENAME TABLE event_log TO elsewhere",
        repair: "RENAME TABLE elsewhere TO event_log",
        says: "Table event_log does not exist"
      },
      "a column that is missing": {
        spoil: "ALTER TABLE event_log RENAME COLUMN trace_id TO trace",
        repair: "ALTER TABLE event_log RENAME COLUMN trace TO trace_id",
        says: "trace_id"
      },
      "a table that is read-only": {
        spoil: "ALTER TABLE event_log MODIFY SETTING table_readonly = 1",
        repair: "ALTER TABLE event_log MODIFY SETTING table_readonly = 0",
        says: "Table is in readonly mode"
      }
    }
    for (const [what, { repair, says, spoil }] of Object.entries(breakages)) {
      it.effect(
        `What is refused because of ClickHouse's configuration (${what}) is blocked with an error that says what to do, and delivered once that was done`,
        () =>
          Effect.gen(function* () {
            yield* command(spoil)
            yield* Relay.start()
            yield* publishApart([{ n: 1 }])
            const [refused] = yield* until(blocked, Arr.isNonEmptyArray)
            expect(refused).toMatchObject({ error_class: "configuration" })
            expect(refused?.error_message).toContain(says)
            yield* command(repair)
            yield* until(batches, Arr.every(isDelivered))
            expect(yield* counts).toEqual({ rows: 1, events: 1 })
          }).pipe(Environment.fresh(soon))
      )
    }

    it.effect(
      "What is refused because of ClickHouse's configuration (a wrong password) is blocked too, and delivered by a relay that has the right one",
      () =>
        Effect.gen(function* () {
          const locked = yield* Relay.start({ CLICKHOUSE_USER: "default", CLICKHOUSE_PASSWORD: "wrong" })
          yield* publishApart([{ n: 1 }])
          const [refused] = yield* until(blocked, Arr.isNonEmptyArray)
          expect(refused).toMatchObject({ error_class: "configuration" })
          expect(refused?.error_message).toMatch(/password/i)
          yield* Fiber.interrupt(locked)
          yield* Relay.start()
          yield* until(batches, Arr.every(isDelivered))
          expect(yield* counts).toEqual({ rows: 1, events: 1 })
        }).pipe(Environment.fresh(soon))
    )

    it.effect(
      "What is refused because of ClickHouse's configuration (a table that disappears while events flow) is blocked too, and delivered once it is back",
      () =>
        Effect.gen(function* () {
          yield* Relay.start()
          yield* publishApart([{ n: 1 }])
          yield* until(batches, (all) => all.length === 1 && all.every(isDelivered))
          yield* command("RENAME TABLE event_log TO elsewhere")
          yield* publishApart([{ n: 2 }])
          expect(yield* until(blocked, Arr.isNonEmptyArray)).toMatchObject([
            { error_class: "configuration", error_code: 60 }
          ])
          yield* command("RENAME TABLE elsewhere TO event_log")
          yield* until(batches, Arr.every(isDelivered))
          expect(yield* counts).toEqual({ rows: 2, events: 2 })
        }).pipe(Environment.fresh(soon))
    )
  }

  it.effect(
    "What is refused because ClickHouse is busy (a table with too many parts) is tried again until it is taken, and is no failure",
    () =>
      Effect.gen(function* () {
        yield* command("SYSTEM STOP MERGES event_log")
        yield* command("ALTER TABLE event_log MODIFY SETTING parts_to_throw_insert = 1, parts_to_delay_insert = 1")
        yield* Relay.start()
        yield* publishApart([{ n: 1 }])
        yield* until(batches, (all) => all.length === 1 && all.every(isDelivered))
        yield* publishApart([{ n: 2 }])
        const seen = yield* until(
          batches,
          Arr.some(({ attempts }) => attempts > 3)
        )
        expect(seen.filter((batch) => !isDelivered(batch))).toMatchObject([
          { error_class: "transient", error_code: 252, state: expect.stringMatching(/retrying|leased/) }
        ])
        yield* command(
          "ALTER TABLE event_log MODIFY SETTING parts_to_throw_insert = 3000, parts_to_delay_insert = 1000"
        )
        yield* until(batches, Arr.every(isDelivered))
        expect(yield* counts).toEqual({ rows: 2, events: 2 })
      }).pipe(Environment.fresh(soon))
  )

  it.effect(
    "What is refused because of a materialized view that fails is blocked, and repeated until the view has it too",
    () =>
      Effect.gen(function* () {
        const clickHouse = yield* ClickHouse
        const view = (select: string) => `
          CREATE MATERIALIZED VIEW seen ENGINE = MergeTree ORDER BY ()
          SETTINGS non_replicated_deduplication_window = 100
          AS SELECT ${select} AS event_id FROM event_log
        `
        yield* command(view("event_id"))
        yield* command(
          "ALTER TABLE seen MODIFY QUERY SELECT if(throwIf(1, 'on purpose'), event_id, event_id) AS event_id FROM event_log"
        )
        yield* Relay.start()
        yield* publishApart([{ n: 1 }])
        const [refused] = yield* until(blocked, Arr.isNonEmptyArray)
        expect(refused).toMatchObject({ error_class: "unknown", error_code: 395 })
        expect(refused?.error_message).toContain("while pushing to view")
        yield* command("ALTER TABLE seen MODIFY QUERY SELECT event_id FROM event_log")
        yield* until(batches, Arr.every(isDelivered))
        expect(yield* counts).toEqual({ rows: 1, events: 1 })
        expect(yield* clickHouse.query("SELECT count() FROM seen")).toEqual([[1]])
      }).pipe(Environment.fresh(soon))
  )

  it.effect(
    "What is refused because the outbox was changed by hand is not sent at all: a batch that lacks an event is blocked until it is whole again",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* command("RENAME TABLE event_log TO elsewhere")
        yield* Relay.start()
        yield* EventPublisher.publishAll(Arr.makeBy(10, (n) => event({ n })))
        yield* until(blocked, Arr.isNonEmptyArray)
        yield* sql`CREATE TABLE deleted AS SELECT * FROM outbox.event WHERE event_context::jsonb @> '{"n": 3}'`
        yield* sql`DELETE FROM outbox.event WHERE event_context::jsonb @> '{"n": 3}'`
        yield* command("RENAME TABLE elsewhere TO event_log")
        const [refused] = yield* until(
          blocked,
          Arr.some(({ error_class }) => error_class === "unknown")
        )
        expect(refused?.error_message).toContain("was sealed with 10 events, but outbox.event now holds 9")
        expect(yield* counts).toEqual({ rows: 0, events: 0 })

        yield* publishApart([{ n: 11 }])
        yield* until(counts, ({ rows }) => rows === 1)
        yield* sql`
          INSERT INTO outbox.event (
            tx_id, id, slot, event_id, event_type, event_date_time, environment, event_context, context_bytes,
            metadata_version
          )
          SELECT
            tx_id, id, slot, event_id, event_type, event_date_time, environment, event_context, context_bytes,
            metadata_version
          FROM deleted
        `
        yield* until(batches, Arr.every(isDelivered))
        expect(yield* counts).toEqual({ rows: 11, events: 11 })
      }).pipe(Environment.fresh({ ...soon, OUTBOX_BATCH_BYTES: "1000000" }))
  )
})
