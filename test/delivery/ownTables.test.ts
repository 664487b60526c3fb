/** Tables of one's own, as docs/operations.md allows them: what a relay promises does not depend on how they are made. */
import { expect, layer } from "@effect/vitest"
import * as Arr from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as BatchFailures from "../../src/BatchFailures.ts"
import { ClickHouse } from "../../src/ClickHouse.ts"
import { ClickHouseSink } from "../../src/ClickHouseSink.ts"
import * as Event from "../../src/Event.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import { OutboxStore } from "../../src/OutboxStore.ts"
import { SinkError } from "../../src/SinkError.ts"
import { Actor } from "../../src/schema/audit.ts"
import * as Verification from "../../src/Verification.ts"
import * as Environment from "../support/environment.ts"
import { counts } from "../support/eventLog.ts"
import * as Relay from "../support/relay.ts"

const COLUMNS = `
  event_type LowCardinality(String), event_date_time DateTime64(6, 'UTC'), environment LowCardinality(String),
  event_context JSON, metadata_version UInt64, event_id UUID, trace_id String`

const KEY = "ORDER BY (event_type, event_date_time, event_id)"
const WINDOW = "SETTINGS non_replicated_deduplication_window = 1000"

/** Each is what stands behind `CREATE TABLE event_log`, and statements that follow it. */
const TABLES: Readonly<Record<string, readonly [table: string, ...statements: ReadonlyArray<string>]>> = {
  "has its columns in another order": [
    `(${COLUMNS.split(/,(?![^(]*\))/)
      .toReversed()
      .join()}) ENGINE = MergeTree ${KEY} ${WINDOW}`
  ],
  "has columns that nobody sends, with defaults, materialized and of an alias": [
    `(${COLUMNS}, received_at DateTime DEFAULT now(), day Date MATERIALIZED toDate(event_date_time), kind String ALIAS event_type)
     ENGINE = MergeTree ${KEY} ${WINDOW}`
  ],
  "has times without a zone": [`(${COLUMNS.replace("(6, 'UTC')", "(6)")}) ENGINE = MergeTree ${KEY} ${WINDOW}`],
  "has no partitions": [`(${COLUMNS}) ENGINE = MergeTree ORDER BY event_id ${WINDOW}`],
  "is partitioned by day": [`(${COLUMNS}) ENGINE = MergeTree PARTITION BY toDate(event_date_time) ${KEY} ${WINDOW}`],
  "forgets after ten years": [
    `(${COLUMNS}) ENGINE = MergeTree ${KEY} TTL toDateTime(event_date_time) + INTERVAL 10 YEAR ${WINDOW}`
  ],
  "is a ReplacingMergeTree whose key ends with the event's id": [
    `(${COLUMNS}) ENGINE = ReplacingMergeTree ${KEY} ${WINDOW}`
  ],
  "has a projection and an index": [
    `(${COLUMNS}, INDEX by_id event_id TYPE bloom_filter, PROJECTION per_type (SELECT event_type, count() GROUP BY event_type))
     ENGINE = MergeTree ${KEY} ${WINDOW}`
  ],
  "feeds a materialized view": [
    `(${COLUMNS}) ENGINE = MergeTree ${KEY} ${WINDOW}`,
    `CREATE TABLE per_type (event_type String, events UInt64) ENGINE = SummingMergeTree ORDER BY event_type ${WINDOW}`,
    `CREATE MATERIALIZED VIEW to_per_type TO per_type AS
     SELECT event_type, count() AS events FROM event_log GROUP BY event_type`
  ]
}

const GOOD = 40

const events = [
  ...Arr.makeBy(GOOD, (n) => Event.make({ eventType: `type_${n % 3}`, eventContext: { n, text: "\t\\N\n'" } })),
  // Beyond what ClickHouse's JSON type takes.
  Event.make({ eventType: "refused", eventContext: { n: 1e30 } })
]

/** ClickHouse has taken the batch, and nobody has heard its answer. */
const loseAnAnswer = Effect.gen(function* () {
  const store = yield* OutboxStore
  const sink = yield* ClickHouseSink
  yield* store.seal({ flush: true })
  const lease = Option.getOrThrow(yield* store.lease("by hand"))
  yield* sink.insert({ ...lease.batch, rows: store.read(lease.batch) })
  yield* store.release(lease, {
    error: new SinkError({ errorClass: "in-doubt", reason: "no answer", settled: false }),
    retryAfter: Duration.zero,
    incidentAfter: Duration.hours(1)
  })
})

const live = Layer.mergeAll(Verification.layer, BatchFailures.layer).pipe(
  Layer.provideMerge(Environment.layer({ OUTBOX_BATCH_EVENTS: "20" }))
)

layer(Layer.empty, { excludeTestServices: true })((it) => {
  for (const [what, [table, ...statements]] of Object.entries(TABLES)) {
    it.effect(
      `A table of one's own that ${what} gets every event once, and keeps refusals, replays and verify right`,
      () =>
        Effect.gen(function* () {
          const { command } = yield* ClickHouse
          for (const statement of ["DROP TABLE event_log", `CREATE TABLE event_log ${table}`, ...statements]) {
            yield* command(statement)
          }
          yield* EventPublisher.publishAll(events)
          yield* loseAnAnswer
          yield* Relay.drain
          expect(yield* counts).toEqual({ rows: GOOD, events: GOOD })

          const failures = yield* BatchFailures.BatchFailures
          const actor = Actor.make("ada")
          const [failure] = yield* failures.list({ state: "open" })
          const { id } = Option.getOrThrow(Option.fromNullable(failure))
          const [refused] = yield* failures.events(id)
          const { eventId } = Option.getOrThrow(Option.fromNullable(refused))
          yield* failures.correct(id, { eventId, correction: '{"event_context": {"n": 1}}', actor })
          yield* failures.replay(id, { actor })
          yield* Relay.drain
          expect(yield* counts).toEqual({ rows: GOOD + 1, events: GOOD + 1 })

          const { verify } = yield* Verification.Verification
          const report = yield* verify({ requeueAs: actor, onFinding: () => Effect.void })
          expect(report).toMatchObject({ missing: { events: 0 }, doubled: { events: 0 }, requeued: { events: 0 } })
          yield* Relay.drain
          expect(yield* counts).toEqual({ rows: GOOD + 1, events: GOOD + 1 })
        }).pipe(Effect.scoped, Effect.provide(live))
    )
  }
})
