import { execFileSync } from "node:child_process"
import { dirname, join } from "node:path"
import * as FileSystem from "@effect/platform/FileSystem"
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as EventLines from "../../src/Cli/eventLines.ts"
import * as Cli from "../support/cli.ts"
import * as Environment from "../support/environment.ts"
import { until } from "../support/wait.ts"

/** A file with these lines, until the scope closes. */
const file = (...lines: ReadonlyArray<string | Uint8Array>) =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const path = join(yield* fs.makeTempDirectoryScoped(), "events.ndjson")
    yield* fs.writeFile(path, Buffer.concat(lines.flatMap((line) => [Buffer.from(line), Buffer.from("\n")])))
    return path
  })

const line = (eventType: string, more: object = {}) =>
  JSON.stringify({ event_type: eventType, event_context: {}, ...more })

const published = (eventType: string) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) => sql<Record<string, unknown>>`
      SELECT
        event_type, event_context::text AS event_context, environment, event_id, metadata_version::text, traceparent,
        to_char(event_date_time AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') AS event_date_time
      FROM outbox.event
      WHERE event_type = ${eventType}
      ORDER BY id
    `
  )

layer(Environment.layer(), { excludeTestServices: true })((it) => {
  it.scoped(
    "clickhouse-outbox publish publishes every line as an event, to the microsecond and to the last digit",
    () =>
      Effect.gen(function* () {
        const event = {
          event_date_time: "2026-01-31t13:00:00.123456+01:00",
          environment: "a\tb\\c\n",
          event_id: "0190aaaa-0000-7000-8000-000000000001",
          metadata_version: 7,
          traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        }
        const path = yield* file(
          line("exact", event).replace("{}", '{"n": 12345678901234567890, "t": "\\t\\\\n \\u00e9"}'),
          line("exact", { environment: null, event_date_time: null, event_id: null, metadata_version: null })
        )
        expect(yield* Cli.run(["publish", path])).toEqual(Cli.succeeded("published 2 events\n"))
        expect(yield* published("exact")).toEqual([
          {
            ...event,
            event_type: "exact",
            event_date_time: "2026-01-31 12:00:00.123456",
            event_context: '{"n": 12345678901234567890, "t": "\\t\\\\n é"}',
            metadata_version: "7"
          },
          expect.objectContaining({
            environment: "test",
            event_context: "{}",
            metadata_version: "1",
            traceparent: null
          })
        ])
      })
  )

  it.scoped(
    "clickhouse-outbox publish reads standard input, or a pipe with a name, and has nothing to do for an empty one",
    () =>
      Effect.gen(function* () {
        const pipe = join(dirname(yield* file()), "pipe")
        execFileSync("mkfifo", [pipe])
        const fs = yield* FileSystem.FileSystem
        yield* Effect.forkScoped(fs.writeFileString(pipe, line("piped")))
        const [fromStdin, fromPipe, fromNothing] = yield* Effect.all(
          [
            Cli.run(["publish", "-"], { stdin: line("piped") }),
            Cli.run(["publish", pipe]),
            Cli.run(["publish", "-"], { stdin: "" })
          ],
          { concurrency: 2 }
        )
        expect(fromStdin).toEqual(Cli.succeeded("published 1 event\n"))
        expect(fromPipe).toEqual(Cli.succeeded("published 1 event\n"))
        expect(fromNothing).toEqual(Cli.succeeded("published 0 events\n"))
        expect(yield* published("piped")).toHaveLength(2)
      })
  )

  it.scoped(
    "clickhouse-outbox publish publishes nothing of a file with lines that are wrong, and names them and what is wrong",
    () =>
      Effect.gen(function* () {
        const path = yield* file(
          line("wrong"),
          "{",
          Buffer.from([0x22, 0xff, 0x22]),
          "x".repeat(9_000_000),
          "",
          "[]",
          line("wrong", { when: "now", event_type: undefined }),
          line("wrong", { event_context: { a: ["\0"] }, event_id: "1" }),
          line("wrong", { event_date_time: "2026-02-30T00:00:00Z" }),
          line("wrong", { event_date_time: "1815-12-10T00:00:00Z", metadata_version: -1 }),
          line("wrong")
        )
        const { code, stderr, stdout } = yield* Cli.run(["publish", path])
        expect({ code, stdout }).toEqual({ code: 1, stdout: "" })
        expect(stderr.split("\n")).toEqual([
          "Nothing was published. Correct and publish again:",
          expect.stringMatching(/^ {2}line 2: is not JSON: ./),
          "  line 3: is not valid UTF-8",
          "  line 4: is longer than 8388608 bytes",
          "  line 5: is empty",
          "  line 6: must be a JSON object",
          expect.stringMatching(/^ {2}line 7, when: is unknown; the fields are event_type, event_context, /),
          "  line 7, event_type: is missing",
          '  line 8, event_id: must be a uuid, not "1"',
          "  line 8, event_context.a.0: contains the character U+0000, which Postgres cannot hold",
          expect.stringMatching(/^ {2}line 9, event_date_time: must be an RFC 3339 time /),
          expect.stringMatching(/^ {2}line 10, event_date_time: must be a time from 1900-01-01 to 2299-12-31/),
          expect.stringMatching(/^ {2}line 10, metadata_version: must be a whole number from 0 /),
          ""
        ])
        expect(yield* published("wrong")).toEqual([])
      })
  )

  it.effect("clickhouse-outbox publish looks for 20 lines that are wrong and says that there may be more", () =>
    Effect.gen(function* () {
      const input = Stream.make(Buffer.from("?\n".repeat(1_000)))
      const { message } = yield* EventLines.toCopyRows(input, { environment: "test" }).pipe(
        Stream.runDrain,
        Effect.flip
      )
      const lines = message.split("\n")
      expect(lines[20]).toMatch(/^ {2}line 20: /)
      expect(lines.slice(21)).toEqual(["  and perhaps more: the lines after that were not checked"])
    })
  )

  it.scoped("clickhouse-outbox publish names the line that only Postgres could refuse", () =>
    Effect.gen(function* () {
      const large = `{"a": [${Array.from({ length: 5_000 }, () => "1e300").join()}]}`
      const path = yield* file(line("refused"), line("refused").replace("{}", large), line("refused"))
      expect(yield* Cli.run(["publish", path])).toEqual(
        Cli.failed(
          "Nothing was published. Correct and publish again:\n" +
            "  line 2, event_context: must not exceed 1048576 bytes as Postgres writes JSON\n" +
            "  and perhaps more: the lines after that were not checked\n"
        )
      )
      expect(yield* published("refused")).toEqual([])
    })
  )

  it.effect(
    "clickhouse-outbox publish fails, and counts nothing, where session_replication_role turns off the trigger that publishes",
    () =>
      Effect.gen(function* () {
        const url = new URL(String((yield* Environment.Environment).DATABASE_URL))
        url.searchParams.set("options", "-c session_replication_role=replica")
        const ended = yield* Cli.run(["publish", "-"], {
          stdin: line("replicated"),
          variables: { DATABASE_URL: url.href }
        })
        expect(ended).toEqual(
          Cli.failed(expect.stringMatching(/^Nothing was published\. session_replication_role is replica/))
        )
        expect(yield* published("replicated")).toEqual([])
      })
  )

  it.scoped(
    "clickhouse-outbox publish says so when the connection is lost while it commits, because the events may be there",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql.unsafe(`
          CREATE FUNCTION terminate() RETURNS trigger LANGUAGE plpgsql
            AS 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END';
          CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON outbox.event DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW WHEN (NEW.event_type = 'in_doubt') EXECUTE FUNCTION terminate();
        `)
        const { code, stderr } = yield* Cli.run(["publish", "-"], { stdin: line("in_doubt") })
        expect(code).toBe(1)
        expect(stderr).toMatch(/^The connection was lost while the events were committed: look into outbox\.event /)
      })
  )

  it.scoped("clickhouse-outbox publish publishes nothing if it is interrupted, and does not exit as if it had", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { ended, signal, stdin } = yield* Cli.start(["publish", "-"])
      stdin.write(`${line("interrupted")}\n`)
      yield* until(
        sql`SELECT FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'COPY outbox.new_event%'`,
        (rows) => rows.length === 1
      )
      yield* signal("SIGINT")
      expect(yield* ended).toEqual({ code: 130, stdout: "", stderr: "" })
      expect(yield* published("interrupted")).toEqual([])
    })
  )

  it.scoped("clickhouse-outbox publish publishes 20,000 lines in less memory than they take", () =>
    Effect.gen(function* () {
      const lines = Array.from({ length: 20_000 }, (_, n) =>
        line("many", { event_context: { n, text: "x".repeat(2_600) } })
      )
      const path = yield* file(lines.join("\n"))
      expect((yield* Effect.flatMap(FileSystem.FileSystem, (fs) => fs.stat(path))).size).toBeGreaterThan(50_000_000)
      const report = "process.on('exit', () => console.error(process.resourceUsage().maxRSS))"
      const { code, stderr, stdout } = yield* Cli.run(["publish", path], {
        // Garbage that nobody has collected yet is not what this is about.
        node: ["--max-old-space-size=48", "--max-semi-space-size=8", "--import", `data:text/javascript,${report}`]
      })
      expect({ code, stdout }).toEqual({ code: 0, stdout: "published 20000 events\n" })
      expect(Number(stderr)).toBeLessThan(200 * 1_024)
    })
  )
})
