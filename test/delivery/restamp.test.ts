import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { Batch } from "../../src/Batch.ts"
import * as Config from "../../src/Config.ts"
import * as Event from "../../src/Event.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import * as OutboxStore from "../../src/OutboxStore.ts"
import * as Relay from "../../src/Relay.ts"
import { SinkError } from "../../src/SinkError.ts"
import * as Environment from "../support/environment.ts"
import { counts } from "../support/eventLog.ts"

const publish = (from: number, to: number) =>
  EventPublisher.publishAll(
    Array.from({ length: to - from }, (_, i) => Event.make({ eventType: "counted", eventContext: { n: from + i } }))
  )

/** What a dump restored elsewhere looks like: the same rows under another cluster's name, far ahead in transaction ids. */
const moveToAnotherCluster = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const ahead = sql.literal("1000000")
  yield* sql`UPDATE outbox.event SET tx_id = (tx_id::text::bigint + ${ahead})::text::xid8`
  yield* sql`
    UPDATE outbox.batch SET
      from_snapshot = (pg_snapshot_xmin(from_snapshot)::text::bigint + ${ahead} || ':' || pg_snapshot_xmax(from_snapshot)::text::bigint + ${ahead} || ':')::pg_snapshot,
      to_snapshot = (pg_snapshot_xmin(to_snapshot)::text::bigint + ${ahead} || ':' || pg_snapshot_xmax(to_snapshot)::text::bigint + ${ahead} || ':')::pg_snapshot,
      first_tx_id = (first_tx_id::text::bigint + ${ahead})::text::xid8,
      last_tx_id = (last_tx_id::text::bigint + ${ahead})::text::xid8
  `
  yield* sql`
    UPDATE outbox.sealer SET
      system_identifier = system_identifier - 1,
      sealed_snapshot = (pg_snapshot_xmin(sealed_snapshot)::text::bigint + ${ahead} || ':' || pg_snapshot_xmax(sealed_snapshot)::text::bigint + ${ahead} || ':')::pg_snapshot,
      window_snapshot = (pg_snapshot_xmin(window_snapshot)::text::bigint + ${ahead} || ':' || pg_snapshot_xmax(window_snapshot)::text::bigint + ${ahead} || ':')::pg_snapshot,
      cursor_tx_id = (cursor_tx_id::text::bigint + ${ahead})::text::xid8
  `
})

layer(Environment.layer({ OUTBOX_BATCH_EVENTS: "100" }), { excludeTestServices: true })("A restored database", (it) => {
  it.effect("is refused until it is restamped, and then nothing is missing or doubled", () =>
    Effect.gen(function* () {
      const store = yield* OutboxStore.OutboxStore
      const outbox = yield* Config.outbox
      const drain = Effect.flatMap(Relay.make({ ...(yield* Config.relay), ...outbox }), (relay) => relay.drain)

      // Delivered, sealed, cut in the middle of a window, and not sealed at all: every state an event can be in.
      yield* publish(0, 250)
      yield* drain
      yield* publish(250, 480)
      yield* store.seal({ flush: true })
      yield* publish(480, 500)
      yield* moveToAnotherCluster

      const refused = yield* Effect.flip(OutboxStore.make(outbox))
      expect(refused._tag).toBe("ForeignCluster")
      expect(refused.message).toContain("clickhouse-outbox restamp")

      // The application did not wait for the repair. Its new ids are lower than any that is stored.
      yield* publish(500, 520)

      expect(yield* OutboxStore.restamp).toEqual({ events: 520, batches: 4 })
      yield* OutboxStore.make(outbox)
      yield* publish(520, 600)
      yield* drain
      expect(yield* counts).toEqual({ rows: 600, events: 600 })

      // A second time changes nothing.
      expect(yield* OutboxStore.restamp).toMatchObject({ events: 600 })
      yield* drain
      expect(yield* counts).toEqual({ rows: 600, events: 600 })
      expect(yield* store.status).toMatchObject({ backlog: 0 })
    })
  )

  it.effect("keeps what was refused a failure, and what was cut out of its batch in the pieces it was cut into", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const store = yield* OutboxStore.OutboxStore
      const outbox = yield* Config.outbox
      const relay = yield* Relay.make({ ...(yield* Config.relay), ...outbox })
      const publishRefused = EventPublisher.publish(Event.make({ eventType: "refused", eventContext: { n: 1e30 } }))

      yield* publish(0, 10)
      yield* publishRefused
      yield* publish(10, 20)
      yield* relay.drain
      yield* EventPublisher.publishAll(
        Array.from({ length: 10 }, (_, n) =>
          Event.make({ eventType: n % 2 === 0 ? "even" : "odd", eventContext: { n: 40 + n } })
        )
      )
      yield* store.seal({ flush: true })
      const mixed = Option.getOrThrow(
        yield* store.lease("a relay that is stopped after it has split the batch by type")
      )
      yield* publish(20, 30)
      yield* publishRefused
      yield* publish(30, 40)
      yield* store.seal({ flush: true })
      const lease = Option.getOrThrow(yield* store.lease("a relay that is stopped after it has cut the batch"))
      const error = new SinkError({ errorClass: "data", reason: "refused", settled: true })
      const pieces = [
        ...(yield* store.splitByType(mixed, { error, first: ["odd"], second: ["even"] })),
        ...(yield* store.split(lease, { error, suspect: Option.some(11) }))
      ]
      const tokens = sql`SELECT id, token, event_count FROM outbox.batch WHERE id = ANY (${pieces}) ORDER BY id`
      const before = yield* tokens
      yield* moveToAnotherCluster

      expect(yield* OutboxStore.restamp).toEqual({ events: 52, batches: 8 })
      expect(yield* tokens).toEqual(before)
      yield* OutboxStore.make(outbox)
      yield* relay.drain
      expect(yield* counts).toEqual({ rows: 50, events: 50 })
      expect(yield* store.status).toMatchObject({ backlog: 0, openFailures: { failures: 2, events: 2 } })
      expect(yield* sql`SELECT status, count(*)::integer FROM outbox.event_status GROUP BY 1 ORDER BY 1`).toEqual([
        { status: "COMPLETED", count: 50 },
        { status: "FAILED", count: 2 }
      ])
    }).pipe(Environment.fresh())
  )

  it.effect("is left as it is if a batch is not whole any more", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const store = yield* OutboxStore.OutboxStore
      yield* publish(0, 10)
      yield* store.seal({ flush: true })
      yield* sql`DELETE FROM outbox.event WHERE id = (SELECT max(id) FROM outbox.event)`
      const before = yield* sql`SELECT tx_id::text, id FROM outbox.event ORDER BY id`
      expect(yield* Effect.flip(OutboxStore.restamp)).toMatchObject({ _tag: "BatchChanged", expected: 10, actual: 9 })
      expect(yield* sql`SELECT tx_id::text, id FROM outbox.event ORDER BY id`).toEqual(before)
      yield* sql`DELETE FROM outbox.batch WHERE state = 'pending'`
    })
  )

  it.effect("a batch reads the same bytes after it was restamped", () =>
    Effect.gen(function* () {
      const store = yield* OutboxStore.OutboxStore
      yield* publish(0, 50)
      const sealed = yield* store.seal({ flush: true })
      if (sealed._tag !== "Batch") return expect.fail(`sealed ${sealed._tag}`)
      const before = yield* bytes(store, sealed.batch)
      yield* OutboxStore.restamp
      const leased = yield* store.lease("test")
      if (leased._tag === "None") return expect.fail("nothing to lease")
      expect(leased.value.batch.token).toBe(sealed.batch.token)
      expect(yield* bytes(store, leased.value.batch)).toBe(before)
    })
  )
})

const bytes = (store: typeof OutboxStore.OutboxStore.Service, batch: Batch) =>
  Stream.runFold(store.read(batch).pipe(Stream.decodeText()), "", (all, part) => all + part)
