import { spawn } from "node:child_process"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { chmod, mkdtemp, rm } from "node:fs/promises"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { Client } from "pg"
import * as Databases from "../../src/embedded/Databases.ts"
import * as EmbeddedClickHouse from "../../src/embedded/EmbeddedClickHouse.ts"
import * as EmbeddedPostgres from "../../src/embedded/EmbeddedPostgres.ts"
import { listen } from "../support/listen.ts"
import { until } from "../support/wait.ts"

const postgres = (url: string, sql: string) =>
  Effect.acquireUseRelease(
    Effect.promise(async () => {
      const client = new Client(url)
      client.on("error", () => {})
      await client.connect()
      return client
    }),
    (client) => Effect.promise(async () => (await client.query({ text: sql, rowMode: "array" })).rows.flat().join()),
    (client) => Effect.promise(() => client.end())
  )

const clickhouse = (url: string, sql: string) =>
  Effect.promise(async () => (await (await fetch(url, { method: "POST", body: sql })).text()).trim())

const temporary = Effect.acquireRelease(
  Effect.promise(async () => {
    const directory = await mkdtemp(join(tmpdir(), "embedded-test-"))
    // Started by root, Postgres runs as somebody else, who must get through.
    await chmod(directory, 0o755)
    return directory
  }),
  (directory) => Effect.promise(() => rm(directory, { recursive: true, force: true }))
)

const takenPort = Effect.suspend(() => listen(createServer((socket) => socket.destroy())))

/** Processes whose arguments name the folder. */
const processesIn = (directory: string) =>
  readdirSync("/proc").filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(directory)
    } catch {
      return false
    }
  })

const eventually = (what: () => boolean) => until(Effect.sync(what), (so) => so)

/** What `npm run databases` runs. */
const databases = (directory: string) =>
  Effect.gen(function* () {
    const main = fileURLToPath(new URL("../../src/embedded/main.ts", import.meta.url))
    const child = yield* Effect.acquireRelease(
      Effect.sync(() => spawn(process.execPath, ["--import", "tsx", main, "--data", directory])),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    )
    const exit = yield* Deferred.make<number | null>()
    child.once("exit", (code) => Deferred.unsafeDone(exit, Effect.succeed(code)))
    let output = ""
    child.stdout.on("data", (chunk) => {
      output += chunk
    })
    let said = ""
    child.stderr.on("data", (chunk) => {
      said += chunk
    })
    yield* eventually(() => output.includes("CLICKHOUSE_URL"))
    return { child, exit: Deferred.await(exit), output, said: Effect.sync(() => said) }
  })

it.scopedLive("EmbeddedPostgres keeps what was committed when it is killed, and comes back on the same port", () =>
  Effect.gen(function* () {
    const server = yield* EmbeddedPostgres.make()
    assert.match(yield* postgres(server.url, "SELECT version()"), /^PostgreSQL 18/)
    yield* postgres(server.url, "CREATE TABLE kept AS SELECT 'ä' AS letter")
    const before = yield* server.pid
    yield* server.kill
    yield* server.restart
    assert.strictEqual(yield* postgres(server.url, "SELECT letter FROM kept"), "ä")
    assert.notStrictEqual(yield* server.pid, before)
  })
)

it.scopedLive("EmbeddedPostgres takes settings, and keeps its data directory for the next start", () =>
  Effect.gen(function* () {
    const dataDir = yield* temporary
    const start = EmbeddedPostgres.make({ dataDir, settings: { fsync: "off", work_mem: "7MB" } })
    const query = (sql: string) => Effect.scoped(Effect.flatMap(start, ({ url }) => postgres(url, sql)))
    assert.strictEqual(yield* query("SELECT current_setting('fsync'), current_setting('work_mem')"), "off,7MB")
    yield* query("CREATE TABLE kept AS SELECT 1 AS one")
    assert.strictEqual(yield* query("SELECT one FROM kept"), "1")
  })
)

it.scopedLive("EmbeddedPostgres says that its port is in use", () =>
  Effect.gen(function* () {
    const port = yield* takenPort
    const error = yield* Effect.flip(EmbeddedPostgres.make({ port }))
    assert.strictEqual(error.reason, "PortInUse")
    assert.include(error.message, `another program listens on port ${port}`)
  })
)

it.scopedLive("EmbeddedClickHouse keeps what was acknowledged when it is killed, and comes back on the same port", () =>
  Effect.gen(function* () {
    const server = yield* EmbeddedClickHouse.make()
    assert.match(yield* clickhouse(server.url, "SELECT version()"), /^26\.7/)
    yield* clickhouse(server.url, "CREATE TABLE kept (context JSON) ENGINE = MergeTree ORDER BY ()")
    yield* clickhouse(server.url, `INSERT INTO kept FORMAT TSV {"a":"ä"}`)
    const before = yield* server.pid
    yield* server.kill
    yield* server.restart
    assert.strictEqual(yield* clickhouse(server.url, "SELECT context.a FROM kept"), "ä")
    assert.notStrictEqual(yield* server.pid, before)
  })
)

it.scopedLive("EmbeddedClickHouse finishes the query that runs when it is stopped", () =>
  Effect.gen(function* () {
    const server = yield* EmbeddedClickHouse.make()
    yield* clickhouse(server.url, "CREATE TABLE kept (n UInt64) ENGINE = MergeTree ORDER BY n")
    yield* Effect.fork(clickhouse(server.url, "INSERT INTO kept SELECT number + sleep(1) FROM numbers(3)"))
    yield* until(
      clickhouse(server.url, "SELECT count() FROM system.processes WHERE query_kind = 'Insert'"),
      (running) => running === "1"
    )
    yield* server.restart
    assert.strictEqual(yield* clickhouse(server.url, "SELECT count() FROM kept"), "3")
  })
)

it.scopedLive("EmbeddedClickHouse says that its port is in use", () =>
  Effect.gen(function* () {
    const port = yield* takenPort
    const error = yield* Effect.flip(EmbeddedClickHouse.make({ port }))
    assert.strictEqual(error.reason, "PortInUse")
    assert.include(error.message, `another program listens on port ${port}`)
  })
)

it.live("Databases are those in the environment, if it names both", () =>
  Effect.gen(function* () {
    const { provider, postgresUrl, clickhouseUrl } = yield* Databases.Databases
    assert.strictEqual(provider, "environment")
    assert.strictEqual(Redacted.value(postgresUrl), "postgres://db/app")
    assert.strictEqual(Redacted.value(clickhouseUrl), "http://ch:8123")
  }).pipe(
    Effect.provide(Databases.layer),
    Effect.withConfigProvider(
      ConfigProvider.fromMap(
        new Map([
          ["DATABASE_URL", "postgres://db/app"],
          ["CLICKHOUSE_URL", "http://ch:8123"]
        ])
      )
    )
  )
)

describe.runIf(existsSync("/proc/self/cmdline"))("no server process remains", () => {
  it.scopedLive("no server process remains when a start is interrupted", () =>
    Effect.gen(function* () {
      const directory = yield* temporary
      const start = Effect.all(
        [
          EmbeddedPostgres.make({ dataDir: join(directory, "postgres") }),
          EmbeddedClickHouse.make({ dataDir: join(directory, "clickhouse") })
        ],
        { concurrency: "unbounded" }
      )
      for (const time of [50, 150, 600, 800]) {
        yield* Effect.scoped(start).pipe(Effect.timeoutOption(time))
        assert.deepStrictEqual(processesIn(directory), [])
      }
    })
  )

  it.scopedLive("no server process remains when a program is killed", () =>
    Effect.gen(function* () {
      const directory = yield* temporary
      const { child } = yield* databases(directory)
      assert.isAtLeast(processesIn(directory).length, 4)
      child.kill("SIGKILL")
      yield* eventually(() => processesIn(directory).length === 0)
    })
  )

  it.scopedLive(
    "no server process remains when one of them dies: `npm run databases` says which, stops the other and fails",
    () =>
      Effect.gen(function* () {
        const directory = yield* temporary
        const { exit, said } = yield* databases(directory)
        const [pid] = readFileSync(join(directory, "postgres", "data", "postmaster.pid"), "utf8").split("\n")
        process.kill(Number(pid), "SIGKILL")
        assert.strictEqual(yield* exit, 1)
        assert.include(yield* said, "Postgres has ended, so both are stopped. Its log is ")
        yield* eventually(() => processesIn(directory).length === 0)
      })
  )

  it.scopedLive(
    "no server process remains when `npm run databases` is told to stop, having printed two addresses",
    () =>
      Effect.gen(function* () {
        const directory = yield* temporary
        const { child, exit, output } = yield* databases(directory)
        const [first, second, ...rest] = output.split("\n")
        assert.strictEqual(yield* postgres(`${first}`.replace("DATABASE_URL=", ""), "SELECT 1"), "1")
        assert.strictEqual(yield* clickhouse(`${second}`.replace("CLICKHOUSE_URL=", ""), "SELECT 1"), "1")
        assert.deepStrictEqual(rest, [""])
        child.kill("SIGTERM")
        assert.strictEqual(yield* exit, 0)
        assert.deepStrictEqual(processesIn(directory), [])
      })
  )
})
