import * as SqlClient from "@effect/sql/SqlClient"
import * as PgClient from "@effect/sql-pg/PgClient"
import { expect, it, layer } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { inject } from "vitest"
import type { Batch } from "../../src/Batch.ts"
import * as Config from "../../src/Config.ts"
import * as Event from "../../src/Event.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import * as Migrations from "../../src/Migrations.ts"
import * as OutboxStore from "../../src/OutboxStore.ts"
import { Postgres } from "../../src/Postgres.ts"
import * as Relay from "../../src/Relay.ts"
import { SinkError } from "../../src/SinkError.ts"
import * as Cli from "../support/cli.ts"
import * as Environment from "../support/environment.ts"
import { counts } from "../support/eventLog.ts"
import * as Relays from "../support/relay.ts"
import { drain } from "../support/relay.ts"
import { BOUND, until } from "../support/wait.ts"

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

layer(Environment.layer({ OUTBOX_BATCH_EVENTS: "100" }), { excludeTestServices: true })((it) => {
  it.effect("A restored database is refused until it is restamped, and then nothing is missing or doubled", () =>
    Effect.gen(function* () {
      const store = yield* OutboxStore.OutboxStore
      const outbox = yield* Config.outbox
      // Delivered, sealed, sealed up to the middle of a window, and not sealed at all: every state an event can be in.
      yield* publish(0, 250)
      yield* drain
      yield* publish(250, 480)
      yield* store.seal({ flush: true })
      yield* publish(480, 500)
      yield* moveToAnotherCluster

      const refused = yield* Effect.flip(OutboxStore.make(outbox))
      expect(refused).toMatchObject({ _tag: "ForeignDatabase", origin: "moved" })
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

  it.effect(
    "A restored database keeps what was refused a failure, and what was split off its batch in the parts it was split into",
    () =>
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
        const lease = Option.getOrThrow(yield* store.lease("a relay that is stopped after it has split the batch"))
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

  it.effect("A restored database is left as it is if a batch is not whole any more", () =>
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

  it.effect("A restored database a batch reads the same bytes after it was restamped", () =>
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

/** The tables and sequences of the outbox as `pg_dump --data-only` has them. */
const dump = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const postgres = yield* Postgres
  const tables = yield* sql<{ name: string }>`
    SELECT oid::regclass::text AS name
    FROM pg_class
    WHERE relnamespace = 'outbox'::regnamespace AND relkind = 'r'
  `
  const sequences = yield* sql<{ name: string }>`
    SELECT oid::regclass::text AS name FROM pg_class WHERE relnamespace = 'outbox'::regnamespace AND relkind = 'S'
  `
  const rows = yield* Effect.forEach(tables, ({ name }) =>
    Effect.map(
      Stream.runCollect(
        postgres.copyOut({ query: `SELECT * FROM ${name}`, settings: "", onComplete: () => Effect.void })
      ),
      (rows) => ({ name, rows })
    )
  )
  const values = yield* Effect.forEach(sequences, ({ name }) =>
    Effect.map(
      sql.unsafe<{ value: string; called: boolean }>(`SELECT last_value AS value, is_called AS called FROM ${name}`),
      ([at]) => `SELECT setval('${name}', ${at?.value}, ${at?.called})`
    )
  )
  return { rows, values }
})

/** What a restore of it makes: the same rows in tables that are new. */
const restore = ({ rows, values }: Effect.Effect.Success<typeof dump>) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const postgres = yield* Postgres
    yield* sql.unsafe("DROP SCHEMA outbox CASCADE")
    yield* Migrations.postgres
    yield* sql.unsafe(`TRUNCATE ${rows.map(({ name }) => name).join(", ")}`)
    yield* Effect.forEach(rows, ({ name, rows }) =>
      postgres.copyIn(`COPY ${name} FROM STDIN`, Stream.fromIterable(rows))
    )
    yield* Effect.forEach(values, (setval) => sql.unsafe(setval))
  })

/** `CREATE DATABASE … TEMPLATE`, which nobody may be connected to, and the environment that leads to the copy. */
const copyDatabase = Effect.gen(function* () {
  const url = new URL((yield* Environment.Environment).DATABASE_URL ?? "")
  const original = url.pathname.slice(1)
  const copy = `${original}_copy`
  const onServer = (statement: string) =>
    Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe(statement)).pipe(
      Effect.provide(PgClient.layer({ url: Redacted.make(inject("postgresUrl")) }))
    )
  yield* Effect.acquireRelease(
    onServer(`SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '${original}'`).pipe(
      Effect.zipRight(onServer(`CREATE DATABASE ${copy} TEMPLATE ${original}`)),
      // Somebody may have connected between the two.
      Effect.retry({ times: 20, schedule: Schedule.spaced("100 millis") })
    ),
    () => Effect.orDie(onServer(`DROP DATABASE ${copy} WITH (FORCE)`))
  )
  url.pathname = `/${copy}`
  return { DATABASE_URL: url.href }
})

it.live(
  "An outbox whose server has not changed is refused where its rows were restored from a dump, and after restamp brings nothing twice",
  () =>
    Effect.gen(function* () {
      const store = yield* OutboxStore.OutboxStore
      const outbox = yield* Config.outbox
      yield* publish(0, 10)
      yield* store.seal({ flush: true })
      yield* publish(10, 15)
      const before = yield* dump
      yield* drain
      yield* restore(before)

      expect(yield* store.lease("a relay that knew the tables from before")).toEqual(Option.none())
      const refused = yield* Effect.flip(OutboxStore.make(outbox))
      expect(refused).toMatchObject({ _tag: "ForeignDatabase", origin: "restored" })
      expect(refused.message).toMatch(/was restored from a dump: .* Stop all relays .*"clickhouse-outbox restamp"/)
      const told = yield* Cli.run(["relay", "--until-empty"])
      expect(told).toMatchObject({ code: 1, stdout: "" })
      expect(told.stderr).toContain("clickhouse-outbox restamp")

      expect(yield* OutboxStore.restamp).toEqual({ events: 15, batches: 1 })
      yield* publish(15, 20)
      yield* drain
      expect(yield* counts).toEqual({ rows: 20, events: 20 })
      expect(yield* store.status).toMatchObject({ backlog: 0 })
    }).pipe(Environment.fresh())
)

it.live(
  "An outbox whose server has not changed ends the relays whose connections come back to it after its rows were restored",
  () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const relay = yield* Relays.start()
      yield* publish(0, 1)
      yield* until(counts, ({ rows }) => rows === 1)
      // What a dump says of the table that it was taken of.
      yield* sql`UPDATE outbox.sealer SET table_oid = 4711`
      yield* publish(1, 2)
      const exit = yield* Effect.timeout(Fiber.await(relay), BOUND)
      expect(Exit.isFailure(exit) && Cause.squash(exit.cause) instanceof OutboxStore.ForeignDatabase).toBe(true)
    }).pipe(Environment.fresh({ OUTBOX_LINGER: "10 millis" }))
)

it.live(
  "An outbox whose server has not changed is refused as a copy of another, whose events it brings after restamp only if that one has not",
  () =>
    Effect.gen(function* () {
      const store = yield* OutboxStore.OutboxStore
      yield* publish(0, 5)
      yield* store.seal({ flush: true })
      yield* publish(5, 10)
      const copy = yield* copyDatabase
      const inCopy = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.provide(effect, Environment.another(copy))

      const refused = yield* Cli.run(["relay", "--until-empty"], { variables: copy })
      expect(refused).toMatchObject({ code: 1, stdout: "" })
      expect(refused.stderr).toMatch(/is a copy of another one.*"clickhouse-outbox restamp"/)

      // The original goes on as if nothing had happened.
      yield* drain
      expect(yield* counts).toEqual({ rows: 10, events: 10 })
      expect(yield* Cli.run(["restamp"], { variables: copy })).toMatchObject({ code: 0 })
      yield* inCopy(Effect.zipRight(publish(10, 13), drain))
      expect(yield* counts).toEqual({ rows: 13, events: 13 })
      yield* publish(13, 15)
      yield* drain
      expect(yield* counts).toEqual({ rows: 15, events: 15 })
    }).pipe(Effect.scoped, Environment.fresh())
)

const bytes = (store: typeof OutboxStore.OutboxStore.Service, batch: Batch) =>
  Stream.runFold(store.read(batch).pipe(Stream.decodeText()), "", (all, part) => all + part)
