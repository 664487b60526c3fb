/** Postgres that has forgotten what it had committed, beside a ClickHouse that has not. */
import { execFile } from "node:child_process"
import { chmod, mkdtemp, realpath, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"
import * as SqlClient from "@effect/sql/SqlClient"
import * as PgClient from "@effect/sql-pg/PgClient"
import { expect, it } from "@effect/vitest"
import * as Arr from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as BatchFailures from "../../src/BatchFailures.ts"
import * as Event from "../../src/Event.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import { layer as clickHouse, EmbeddedClickHouse } from "../../src/embedded/EmbeddedClickHouse.ts"
import * as EmbeddedPostgres from "../../src/embedded/EmbeddedPostgres.ts"
import * as OutboxStore from "../../src/OutboxStore.ts"
import { SinkError } from "../../src/SinkError.ts"
import * as Verification from "../../src/Verification.ts"
import * as Cli from "../support/cli.ts"
import * as Environment from "../support/environment.ts"
import { counts } from "../support/eventLog.ts"
import { batches } from "../support/manifest.ts"
import { drain } from "../support/relay.ts"
import { until } from "../support/wait.ts"

const publish = (from: number, to: number) =>
  EventPublisher.publishAll(
    Arr.makeBy(to - from, (i) => Event.make({ eventType: "counted", eventContext: { n: from + i } }))
  )

const publishRefused = EventPublisher.publish(Event.make({ eventType: "refused", eventContext: { n: 1e30 } }))

/** What an operator does about the failure of each refused event. */
const correctAndReplay = Effect.gen(function* () {
  const failures = yield* BatchFailures.BatchFailures
  const open = yield* failures.list({ state: "open" })
  yield* Effect.forEach(open, ({ id }) =>
    Effect.gen(function* () {
      const actor = BatchFailures.Actor.make("ada")
      const [event] = yield* failures.events(id)
      if (event === undefined) return yield* Effect.dieMessage("a failure without an event")
      yield* failures.correct(id, { eventId: event.eventId, correction: '{"event_context": {}}', actor })
      yield* failures.replay(id, { actor })
    })
  )
  yield* drain
})

const run = promisify(execFile)

/** A folder that the account which Postgres runs under can reach. */
const folder = Effect.acquireRelease(
  Effect.promise(async () => {
    const made = await mkdtemp(join(tmpdir(), "clickhouse-outbox-restore-"))
    await chmod(made, 0o755)
    return made
  }),
  (made) => Effect.promise(() => rm(made, { recursive: true, force: true }))
)

/** Copies a stopped server's data, as a snapshot of its disk. */
const copyData = (from: string, to: string) =>
  Effect.promise(async () => {
    await run("mkdir", ["-p", to])
    await run("cp", ["-a", await realpath(join(from, "data")), join(to, "data")])
  })

/** Lets the server replay its log and begin a new timeline: as from a backup, or as a standby that is promoted. */
const recover = (dataDir: string) => signal(dataDir, "recovery.signal")

/** What Postgres looks for when it starts. */
const signal = (dataDir: string, name: string) =>
  Effect.promise(async () => {
    await writeFile(join(dataDir, "data", name), "")
    await run("chown", ["--reference", join(dataDir, "data", "PG_VERSION"), join(dataDir, "data", name)])
  })

/** Until its recovery is over a server can be read. */
const promoted = (url: string) =>
  until(
    Effect.flatMap(
      SqlClient.SqlClient,
      (sql) => sql<{ recovering: boolean }>`SELECT pg_is_in_recovery() AS recovering`
    ).pipe(
      Effect.provide(PgClient.layer({ url: Redacted.make(url) })),
      Effect.orElseSucceed(() => [{ recovering: true }])
    ),
    ([server]) => server?.recovering === false
  )

/** Runs with a Postgres on the folder's data, and stops it. */
const onPostgres =
  (dataDir: string) =>
  <A, E, R>(use: Effect.Effect<A, E, R>) =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const server = yield* Scope.extend(
        EmbeddedPostgres.make({ dataDir, settings: { restore_command: "false", fsync: "off" } }),
        scope
      )
      const { url } = yield* EmbeddedClickHouse
      yield* promoted(server.url)
      return yield* use.pipe(
        Effect.provide(
          Layer.provideMerge(
            Layer.merge(Verification.layer, BatchFailures.layer),
            Environment.onServers({
              DATABASE_URL: server.url,
              CLICKHOUSE_URL: url,
              OUTBOX_ENVIRONMENT: "test",
              OUTBOX_BATCH_EVENTS: "100"
            })
          )
        ),
        Effect.scoped,
        Effect.ensuring(Scope.close(scope, Exit.void))
      )
    })

/** What there is when the backup is taken: delivered, failed, in batches, and in none. */
const before = Effect.gen(function* () {
  const store = yield* OutboxStore.OutboxStore
  yield* publish(0, 100)
  yield* publishRefused
  yield* drain
  yield* publish(100, 250)
  yield* publishRefused
  yield* store.seal({ flush: true })
  yield* publish(250, 300)
})

/** What is forgotten: deliveries, a batch that was split under other tokens, events that were sealed, and new ones. */
const forgotten = Effect.gen(function* () {
  yield* drain
  yield* correctAndReplay
  yield* publish(300, 350)
  yield* drain
  expect(yield* counts).toEqual({ rows: 352, events: 352 })
})

/** The application goes on, and so does a relay. */
const after = Effect.gen(function* () {
  yield* publish(350, 400)
  yield* drain
  yield* correctAndReplay
  // The transactions of 50 events are lost, and their rows in ClickHouse are not.
  expect(yield* counts).toEqual({ rows: 402, events: 402 })
  const store = yield* OutboxStore.OutboxStore
  expect(yield* store.status).toMatchObject({ backlog: 0, openFailures: { failures: 0, events: 0 } })
  const { verify } = yield* Verification.Verification
  expect(yield* verify()).toMatchObject({ compared: { events: 352 }, missing: { events: 0 }, doubled: { events: 0 } })
})

/** ClickHouse forgets tokens after so many others. */
const forgetTokens = Effect.gen(function* () {
  const { url } = yield* EmbeddedClickHouse
  const statements = [
    "CREATE TABLE restored AS event_log",
    "INSERT INTO restored SELECT * FROM event_log",
    "EXCHANGE TABLES restored AND event_log",
    "DROP TABLE restored"
  ]
  yield* Effect.forEach(statements, (body) =>
    Effect.promise(async () => expect((await fetch(url, { method: "POST", body })).status).toBe(200))
  )
})

const goBack = (
  prepare: (dataDir: string) => Effect.Effect<void>,
  repair: Effect.Effect<unknown, unknown, SqlClient.SqlClient>
) =>
  Effect.gen(function* () {
    const directory = yield* folder
    const [original, backup] = [join(directory, "original"), join(directory, "backup")]
    yield* onPostgres(original)(before)
    yield* copyData(original, backup)
    yield* onPostgres(original)(forgotten)
    yield* forgetTokens
    yield* prepare(backup)
    yield* onPostgres(backup)(Effect.zipRight(repair, after))
  }).pipe(Effect.provide(clickHouse()), Effect.scoped)

it.live(
  "Postgres went back in time by a recovery or a fail-over: nothing that it forgot to have delivered is delivered again",
  () => goBack(recover, Effect.void)
)

it.live("Postgres went back in time by a copy of its disk: nothing is delivered again once it is restamped", () =>
  goBack(() => Effect.void, OutboxStore.restamp)
)

it.live("A relay on a standby says that it is one, and so do commands that write", () =>
  Effect.gen(function* () {
    const directory = yield* folder
    const [primary, standby] = [join(directory, "primary"), join(directory, "standby")]
    yield* onPostgres(primary)(publish(0, 1))
    yield* copyData(primary, standby)
    yield* signal(standby, "standby.signal")
    const server = yield* EmbeddedPostgres.make({ dataDir: standby, settings: { restore_command: "false" } })
    const { url } = yield* EmbeddedClickHouse
    yield* Effect.gen(function* () {
      const relay = yield* Cli.start(["relay"])
      yield* relay.said("This Postgres is a standby")
      const refused = yield* Cli.run(["pause", "--reason", "tried"])
      expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining("This Postgres is a standby") })
      expect(yield* Cli.run(["status"])).toMatchObject({ code: 0, stdout: expect.stringContaining("1 event") })
    }).pipe(
      Effect.provideService(Environment.Environment, { DATABASE_URL: server.url, CLICKHOUSE_URL: url }),
      Effect.scoped
    )
  }).pipe(Effect.provide(clickHouse()), Effect.scoped)
)

it.live("A fail-over that lost nothing costs a question for each batch that waits, and changes nothing", () =>
  Effect.gen(function* () {
    const directory = yield* folder
    const timeline = Effect.flatMap(
      SqlClient.SqlClient,
      (sql) => sql<{ timeline: number; current: number }>`
          SELECT timeline, outbox.current_timeline() AS current FROM outbox.sealer
        `
    )
    const primary = join(directory, "primary")
    yield* onPostgres(primary)(
      Effect.gen(function* () {
        yield* before
        expect(yield* timeline).toEqual([{ timeline: 1, current: 1 }])
      })
    )
    yield* recover(primary)
    yield* onPostgres(primary)(
      Effect.gen(function* () {
        const store = yield* OutboxStore.OutboxStore
        expect(yield* timeline).toEqual([{ timeline: 1, current: 2 }])
        // Before any relay has noticed.
        const lease = Option.getOrThrow(yield* store.lease("a worker that is faster than the sealer"))
        expect(lease).toMatchObject({ inDoubt: true, askFirst: true, attempt: 1 })
        const error = new SinkError({ errorClass: "transient", reason: "a test", settled: true })
        yield* store.release(lease, { error, retryAfter: Duration.zero, incidentAfter: Duration.minutes(1) })
        yield* drain
        expect(yield* timeline).toEqual([{ timeline: 2, current: 2 }])
        expect(yield* counts).toEqual({ rows: 300, events: 300 })
        yield* publish(300, 310)
        yield* drain
        const sql = yield* SqlClient.SqlClient
        const last = yield* sql`SELECT ask_first FROM outbox.batch ORDER BY id DESC LIMIT 1`
        expect(last).toEqual([{ ask_first: false }])
        expect((yield* batches).filter(({ state }) => state === "pending")).toEqual([])
      })
    )
  }).pipe(Effect.provide(clickHouse()), Effect.scoped)
)
