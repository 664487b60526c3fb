import { randomUUID } from "node:crypto"
import { readFileSync } from "node:fs"
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Event from "../../src/Event.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import * as Cli from "../support/cli.ts"
import * as Environment from "../support/environment.ts"
import { counts } from "../support/eventLog.ts"
import { drain } from "../support/relay.ts"

const COMMANDS = [
  ...["migrate", "relay", "publish", "status", "failures", "where", "batches", "incidents", "pause", "resume"],
  ...["restamp", "verify", "token"]
]

const publish = EventPublisher.publish(Event.make({ eventType: "counted", eventContext: {} }))

/** The variable for a database beside this file's: empty, and dropped when the scope closes. */
const emptyDatabase = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const name = `empty_${randomUUID().replaceAll("-", "")}`
  yield* Effect.acquireRelease(sql.unsafe(`CREATE DATABASE ${name}`), () =>
    Effect.orDie(sql.unsafe(`DROP DATABASE ${name} WITH (FORCE)`))
  )
  const url = new URL(String((yield* Environment.Environment).DATABASE_URL))
  url.pathname = name
  return { DATABASE_URL: url.href }
})

const LogLines = Schema.Array(Schema.parseJson(Schema.Record({ key: Schema.String, value: Schema.Unknown })))
const logLines = (stderr: string) => Schema.decodeSync(LogLines)(stderr.trimEnd().split("\n"))

layer(Environment.layer(), { excludeTestServices: true })((it) => {
  it.effect("clickhouse-outbox tells its version and its commands, in plain text where it is no terminal", () =>
    Effect.gen(function* () {
      const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"))
      const { stdout } = yield* Cli.run(["--help"])
      expect(stdout).toContain(`\nclickhouse-outbox ${version}\n`)
      for (const command of COMMANDS) expect(stdout).toMatch(new RegExp(`^ {2}- ${command} `, "m"))
      expect(stdout).not.toContain("\x1b")
    })
  )

  it.scoped("clickhouse-outbox migrate can be run by several at once and again, and says what was done", () =>
    Effect.gen(function* () {
      const variables = { ...(yield* emptyDatabase), CLICKHOUSE_TABLE: "events_of_migrate" }
      const migrate = Cli.run(["migrate"], { variables })
      const ended = yield* Effect.all([migrate, migrate], { concurrency: 2 })
      const done = "ClickHouse: table events_of_migrate is there\n"
      const upToDate = `Postgres: was up to date\n${done}`
      expect(ended.toSorted((a, b) => a.stdout.localeCompare(b.stdout))).toEqual([
        Cli.succeeded(expect.stringMatching(`^Postgres: migrated, 0001_outbox.*\n${done}$`)),
        Cli.succeeded(upToDate)
      ])
      expect(yield* migrate).toEqual(Cli.succeeded(upToDate))
    })
  )

  it.scoped("clickhouse-outbox migrate is what the other commands ask for where there is no outbox", () =>
    Effect.gen(function* () {
      const variables = yield* emptyDatabase
      const missing = Cli.failed(
        'The database has no outbox yet, or one of an older release. Run "clickhouse-outbox migrate"\n'
      )
      const commands = [["status"], ["relay"], ["publish", "-"]]
      const ended = yield* Effect.forEach(
        commands,
        (args) => Cli.run(args, { variables, stdin: '{"event_type":"a","event_context":{}}' }),
        { concurrency: 2 }
      )
      expect(ended).toEqual(commands.map(() => missing))
    })
  )

  it.effect(
    "clickhouse-outbox relay with --until-empty delivers everything and ends, with logs as JSON that lead to the trace",
    () =>
      Effect.gen(function* () {
        yield* publish
        const { code, stderr, stdout } = yield* Cli.run(["relay", "--until-empty"])
        expect({ code, stdout }).toEqual({ code: 0, stdout: "" })
        expect(logLines(stderr)).toContainEqual(
          expect.objectContaining({
            timestamp: expect.any(String),
            level: "INFO",
            message: "Delivered a batch",
            "batch.event_count": 1,
            trace_id: expect.stringMatching(/^[0-9a-f]{32}$/),
            span_id: expect.stringMatching(/^[0-9a-f]{16}$/)
          })
        )
        expect(yield* counts).toEqual({ rows: 1, events: 1 })
      })
  )

  it.effect.each([
    ["SIGTERM", 0],
    ["SIGHUP", 0],
    ["SIGTERM", 500]
  ] as const)(
    "clickhouse-outbox relay ends with exit code 0 when it is told to by %s, %s ms after it began to load",
    ([signal, millis]) =>
      Effect.gen(function* () {
        // Node itself takes its time before a program can hear anything.
        const whenHeard = `
          const timer = setInterval(() => {
            if (process.listenerCount("${signal}") === 0) return
            clearInterval(timer)
            setTimeout(() => process.kill(process.pid, "${signal}"), ${millis})
          }, 1)
        `
        const node = ["--import", `data:text/javascript,${encodeURIComponent(whenHeard)}`]
        const { code, stderr } = yield* Cli.run(["relay"], { node })
        expect(code).toBe(0)
        expect(stderr).toContain("The relay has stopped")
      })
  )

  it.scoped("clickhouse-outbox relay ends with exit code 0 when it is told to by SIGTERM", () =>
    Effect.gen(function* () {
      const relay = yield* Cli.start(["relay"], { variables: { LOG_FORMAT: "pretty" } })
      yield* relay.said("The relay has started")
      yield* publish
      yield* relay.said("Delivered a batch")
      yield* relay.signal("SIGTERM")
      expect(yield* relay.ended).toMatchObject({ code: 0, stdout: "" })
    })
  )

  it.scoped("clickhouse-outbox relay waits for a Postgres that does not answer yet, or until Ctrl-C", () =>
    Effect.gen(function* () {
      const relay = yield* Cli.start(["relay"], { variables: { DATABASE_URL: Cli.UNREACHABLE } })
      yield* relay.said("Postgres at 127.0.0.1:1 cannot be reached: connect ECONNREFUSED 127.0.0.1:1")
      yield* relay.signal("SIGINT")
      const { code, stderr } = yield* relay.ended
      expect(code).toBe(0)
      expect(stderr).not.toContain("hunter2")
    })
  )

  it.effect("clickhouse-outbox status says what is undelivered and why, for people and for programs", () =>
    Effect.gen(function* () {
      yield* drain
      yield* publish
      const [people, programs] = yield* Effect.all([Cli.run(["status"]), Cli.run(["status", "--json"])], {
        concurrency: 2
      })
      expect(people.stdout).toMatch(
        /^undelivered {5}1 event, the oldest for .+\nnot in batches {2}1 event\nbatches {9}0 sealed, 0 leased, 0 retrying, 0 blocked, \d+ delivered, 0 failed\nfailures {8}0 open, with 0 events\nincidents {7}0 open\nrelays {10}not paused\nlast delivery {3}\d{4}-.+Z\nlast error {6}none\n$/
      )
      expect(JSON.parse(programs.stdout)).toEqual({
        backlog: 1,
        oldest_undelivered_ms: expect.any(Number),
        unsealed: 1,
        batches: { sealed: 0, leased: 0, retrying: 0, blocked: 0, delivered: expect.any(Number), failed: 0 },
        open_failures: { failures: 0, events: 0 },
        open_incidents: 0,
        relay_pause: null,
        last_delivered_at: expect.stringMatching(/Z$/),
        last_error: null
      })
    })
  )

  it.scoped("clickhouse-outbox status names the batch that does not get through, and what ClickHouse said", () =>
    Effect.gen(function* () {
      yield* publish
      const relay = yield* Cli.start(["relay"], {
        variables: { CLICKHOUSE_TABLE: "not_there", OUTBOX_RETRY_CAP: "100 millis" }
      })
      yield* relay.said("A batch was not delivered")
      yield* relay.signal("SIGTERM")
      yield* relay.ended
      const { stdout } = yield* Cli.run(["status"])
      expect(stdout).toMatch(/last error {6}batch \d+, \d+ attempts?, configuration: Table not_there does not exist/)
    })
  )

  it.effect("clickhouse-outbox restamp says how much it has repaired", () =>
    Effect.gen(function* () {
      yield* drain
      const { stdout } = yield* Cli.run(["restamp"])
      expect(stdout).toMatch(/^restamped \d+ events?, in \d+ batch(es)?\n$/)
    })
  )
})
