import { createServer } from "node:http"
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Cli from "../support/cli.ts"
import * as Environment from "../support/environment.ts"
import { listen } from "../support/listen.ts"

layer(Environment.layer(), { excludeTestServices: true })((it) => {
  it.effect("What is wrong with the variables is said in a line each, without a stack", () =>
    Effect.gen(function* () {
      const [missing, wrong] = yield* Effect.all(
        [
          Cli.run(["relay"], {
            variables: { DATABASE_URL: undefined, CLICKHOUSE_URL: undefined, OUTBOX_WORKERS: "none" }
          }),
          Cli.run(["status"], { variables: { DATABASE_URL: "mysql://ada:hunter2@db/app" } })
        ],
        { concurrency: 2 }
      )
      expect(missing).toEqual(
        Cli.failed(
          'DATABASE_URL is not set\nCLICKHOUSE_URL is not set\nOUTBOX_WORKERS: Expected an integer value but received "none"\n'
        )
      )
      expect(wrong).toEqual(Cli.failed("DATABASE_URL: must be a URL that starts with postgres:// or postgresql://\n"))
    })
  )

  it.effect("What is wrong with the arguments is said too", () =>
    Effect.gen(function* () {
      const [noFile, notThere] = yield* Effect.all([Cli.run(["publish"]), Cli.run(["publish", "/not/there.ndjson"])], {
        concurrency: 2
      })
      expect(noFile).toEqual(Cli.failed("Missing argument <FILE>\n\n"))
      expect(notThere).toEqual(
        Cli.failed(expect.stringMatching(/^\/not\/there\.ndjson cannot be read, nothing was published: ENOENT/))
      )
    })
  )

  it.effect("What is wrong with Postgres is said with its address and never with a password", () =>
    Effect.gen(function* () {
      const elsewhere = new URL(String((yield* Environment.Environment).DATABASE_URL))
      elsewhere.username = "nobody"
      elsewhere.password = "hunter2"
      const commands = [["migrate"], ["publish", "-"], ["status"]]
      const unreachable = yield* Effect.forEach(
        commands,
        (args) => Cli.run(["--log-level", "all", ...args], { variables: { DATABASE_URL: Cli.UNREACHABLE } }),
        { concurrency: 2 }
      )
      for (const { code, stderr } of unreachable) {
        expect(code).toBe(1)
        expect(stderr).toContain("Postgres at 127.0.0.1:1 cannot be reached: connect ECONNREFUSED 127.0.0.1:1\n")
        expect(stderr).not.toContain("hunter2")
      }
      const [notLetIn, noCertificate] = yield* Effect.all(
        [
          Cli.run(["status"], { variables: { DATABASE_URL: elsewhere.href } }),
          Cli.run(["relay"], { variables: { DATABASE_URL: `${Cli.UNREACHABLE}?sslrootcert=/not/there.pem` } })
        ],
        { concurrency: 2 }
      )
      expect(notLetIn).toEqual(
        Cli.failed(expect.stringMatching(`^Postgres at ${elsewhere.host} answered with an error: .+SQLSTATE`))
      )
      expect(notLetIn.stderr).not.toContain("hunter2")
      expect(noCertificate).toEqual(Cli.failed(expect.stringMatching("ENOENT.+'/not/there.pem'\n$")))
    })
  )

  it.effect("What is wrong with ClickHouse is said after what was done in Postgres", () =>
    Effect.gen(function* () {
      const { code, stderr, stdout } = yield* Cli.run(["migrate"], {
        variables: { CLICKHOUSE_URL: "http://ada:hunter2@127.0.0.1:1" }
      })
      expect({ code, stdout }).toEqual({ code: 1, stdout: "Postgres: was up to date\n" })
      expect(stderr).toBe("ClickHouse was not reached: connect ECONNREFUSED 127.0.0.1:1\n")
    })
  )

  it.scoped(
    "What is wrong with ClickHouse is said whole by the command that met it, whatever kind of error it is",
    () =>
      Effect.gen(function* () {
        const said = "Code: 1002. DB::Exception: It is odd here. (UNKNOWN_EXCEPTION) (version 26.7.1.1)"
        const odd = createServer((_, response) =>
          response.writeHead(500, { "X-ClickHouse-Exception-Code": "1002" }).end(said)
        )
        const CLICKHOUSE_URL = `http://127.0.0.1:${yield* listen(odd)}`
        const { code, stderr } = yield* Cli.run(["verify"], { variables: { CLICKHOUSE_URL } })
        expect(code).toBe(1)
        expect(stderr).toMatch(/^ClickHouse refused\. .*It is odd here/)
      })
  )
})
