/** TLS to both databases: what is let through, what is refused, and what is said then. */
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { inject } from "vitest"
import { namePostgres } from "../../src/Cli/services.ts"
import * as ClickHouse from "../../src/ClickHouse.ts"
import * as EmbeddedPostgres from "../../src/embedded/EmbeddedPostgres.ts"
import * as Postgres from "../../src/Postgres.ts"
import * as Certificates from "../support/certificates.ts"
import * as Cli from "../support/cli.ts"
import * as Environment from "../support/environment.ts"
import { counts } from "../support/eventLog.ts"
import * as Login from "../support/login.ts"
import { ask } from "../support/operator.ts"
import { until } from "../support/wait.ts"

const PASSWORD = "correct-horse-battery"

const ONLY_TLS = "hostssl all all all trust\nhostnossl all all all reject\n"

/** A Postgres that answers nobody without TLS. */
const securePostgres = (authority: Certificates.Certificate) =>
  Effect.gen(function* () {
    const { cert, key } = yield* Certificates.ofServer(authority)
    const path = yield* Certificates.files({ key, cert, hba: ONLY_TLS })
    const server = yield* EmbeddedPostgres.make({
      settings: { ssl: "on", ssl_cert_file: path("cert"), ssl_key_file: path("key"), hba_file: path("hba") }
    })
    const url = new URL(server.url)
    url.hostname = "localhost"
    url.password = PASSWORD
    return url
  })

/** The URL with these parameters. */
const withParameters = (url: string | URL, parameters: Readonly<Record<string, string>>): string => {
  const changed = new URL(url)
  for (const [name, value] of Object.entries(parameters)) changed.searchParams.set(name, value)
  return changed.href
}

const trusting = (url: string | URL, sslrootcert: string) =>
  withParameters(url, { sslmode: "verify-full", sslrootcert })

/** What a command would say that asks this Postgres. */
const askPostgres = (url: string) => {
  const config = { url: Redacted.make(url), maxConnections: 3, connectTimeout: Duration.seconds(5) }
  return Effect.flatMap(SqlClient.SqlClient, (sql) => sql`SELECT 1 AS answer`).pipe(
    Effect.provide(Postgres.layer(config)),
    namePostgres(config)
  )
}

const clickHouse = (url: string, caFile?: string, password?: string) =>
  ClickHouse.layer({
    url: Redacted.make(url),
    username: Option.some("default"),
    password: Option.map(Option.fromNullable(password), (password) => Redacted.make(password)),
    database: Option.none(),
    table: "event_log",
    cluster: Option.none(),
    caFile: Option.fromNullable(caFile),
    requestTimeout: Duration.seconds(10),
    compression: "none"
  })

const askClickHouse = (...address: Parameters<typeof clickHouse>) =>
  Effect.flatMap(ClickHouse.ClickHouse, (clickHouse) => clickHouse.query("SELECT 1")).pipe(
    Effect.provide(clickHouse(...address))
  )

layer(Environment.layer(), { excludeTestServices: true })((it) => {
  it.scoped(
    "TLS carries all: migrate, publish, relay and its operator API, through servers that take nothing else",
    () =>
      Effect.gen(function* () {
        const authority = yield* Certificates.authority
        const ca = yield* Certificates.files({ ca: authority.cert })
        const postgres = yield* securePostgres(authority)
        const clickHouse = yield* Certificates.terminate(
          inject("clickhouseUrl"),
          yield* Certificates.ofServer(authority)
        )
        const variables = {
          DATABASE_URL: trusting(postgres, ca("ca")),
          CLICKHOUSE_URL: clickHouse,
          CLICKHOUSE_CA_FILE: ca("ca"),
          LOG_FORMAT: "json"
        }
        const run = (...args: ReadonlyArray<string>) =>
          Cli.run(args, { variables, stdin: `{"event_type": "by_tls", "event_context": {}}\n` })
        expect(yield* run("migrate")).toMatchObject({ code: 0, stderr: "" })
        expect(yield* run("publish", "-")).toMatchObject({ code: 0 })
        expect(yield* run("relay", "--until-empty")).toMatchObject({ code: 0 })
        expect(yield* counts).toEqual({ rows: 1, events: 1 })

        const relay = yield* Cli.start(["relay"], { variables: { ...variables, OUTBOX_HTTP_PORT: "0" } })
        const url = yield* relay.url
        yield* until(ask(url, "GET /readyz"), ({ status }) => status === 200)
        expect(yield* run("publish", "-")).toMatchObject({ code: 0 })
        yield* until(counts, ({ rows }) => rows === 2)
        // What ClickHouse has is acknowledged a moment later.
        yield* until(ask(url, "GET /api/status"), ({ json }) => Object(json).backlog === 0)

        const plain = new URL(postgres)
        plain.searchParams.set("sslmode", "disable")
        expect(yield* Effect.flip(askPostgres(plain.href))).toMatchObject({
          message: expect.stringContaining("no encryption")
        })
        const encrypted = yield* Login.session({ url: trusting(postgres, ca("ca")) })
        const connections = yield* encrypted(
          "SELECT DISTINCT ssl, version FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE datname IS NOT NULL"
        )
        expect(connections).toEqual([{ ssl: true, version: "TLSv1.3" }])
      })
  )

  {
    interface Case {
      readonly name?: string
      readonly expired?: boolean
      /** Whose authority is configured. */
      readonly trusts: "its own" | "another" | "none"
      readonly says: (variables: { readonly address: string; readonly authority: string }) => string
    }

    const cases: Record<string, Case> = {
      "whose authority is not known": {
        trusts: "none",
        says: ({ authority }) => `name the PEM file of the one that has in ${authority}`
      },
      "whose certificate is of another authority": {
        trusts: "another",
        says: ({ authority }) => `name the PEM file of the one that has in ${authority}`
      },
      "whose certificate is for another name": {
        name: "other.example.com",
        trusts: "its own",
        says: ({ address }) => `use one of the names that it is for in ${address}`
      },
      "whose certificate has expired": {
        expired: true,
        trusts: "its own",
        says: () => "has expired: renew it on the server"
      }
    }

    for (const [what, { expired, name, says, trusts }] of Object.entries(cases)) {
      const arrange = Effect.gen(function* () {
        const authority = yield* Certificates.authority
        const configured = trusts === "another" ? yield* Certificates.authority : authority
        const ca = yield* Certificates.files({ ca: configured.cert })
        return {
          certificate: yield* Certificates.ofServer(authority, name, expired),
          caFile: trusts === "none" ? undefined : ca("ca")
        }
      })

      for (const sslmode of ["verify-full", "verify-ca", "require", "prefer"]) {
        it.scoped(`TLS refuses a server ${what}: Postgres, with sslmode=${sslmode}`, () =>
          Effect.gen(function* () {
            const { caFile, certificate } = yield* arrange
            const { DATABASE_URL = "" } = yield* Environment.Environment
            const proxied = new URL(yield* Certificates.terminate(DATABASE_URL, certificate, true))
            proxied.password = PASSWORD
            const url = withParameters(proxied, { sslmode, ...(caFile !== undefined && { sslrootcert: caFile }) })
            const error = yield* Effect.flip(askPostgres(url))
            expect(error).toMatchObject({ _tag: "PostgresFailed" })
            expect(error.message).toContain(says({ address: "DATABASE_URL", authority: "sslrootcert of DATABASE_URL" }))
            expect(error.message).toContain(`Postgres at localhost:${proxied.port} cannot be reached`)
            expect(error.message).not.toContain(PASSWORD)
          })
        )
      }

      it.scoped(`TLS refuses a server ${what}: ClickHouse, and knows that nothing was sent`, () =>
        Effect.gen(function* () {
          const { caFile, certificate } = yield* arrange
          const url = yield* Certificates.terminate(inject("clickhouseUrl"), certificate)
          const error = yield* Effect.flip(askClickHouse(url, caFile, PASSWORD))
          expect(error).toMatchObject({ _tag: "SinkError", errorClass: "configuration", settled: true })
          expect(error.message).toContain(says({ address: "CLICKHOUSE_URL", authority: "CLICKHOUSE_CA_FILE" }))
          expect(error.message).not.toContain(PASSWORD)
        })
      )
    }

    it.scoped("TLS refuses a server that has no TLS, rather than do without", () =>
      Effect.gen(function* () {
        const { DATABASE_URL = "" } = yield* Environment.Environment
        for (const sslmode of ["verify-full", "require", "prefer"]) {
          const error = yield* Effect.flip(askPostgres(withParameters(DATABASE_URL, { sslmode })))
          expect(error.message).toContain("The server does not support SSL connections")
        }
        const url = inject("clickhouseUrl").replace(/^http:/, "https:")
        expect(yield* Effect.flip(askClickHouse(url))).toMatchObject({ _tag: "SinkError" })
      })
    )
  }

  it.scoped("TLS knows a server by its address too, if the certificate has it", () =>
    Effect.gen(function* () {
      const authority = yield* Certificates.authority
      const ca = yield* Certificates.files({ ca: authority.cert })
      const certificate = yield* Certificates.ofServer(authority)
      const { DATABASE_URL = "" } = yield* Environment.Environment
      const byAddress = (url: string) => url.replace("localhost", "127.0.0.1")
      const postgres = byAddress(yield* Certificates.terminate(DATABASE_URL, certificate, true))
      expect(yield* askPostgres(trusting(postgres, ca("ca")))).toEqual([{ answer: 1 }])
      const clickHouse = byAddress(yield* Certificates.terminate(inject("clickhouseUrl"), certificate))
      expect(yield* askClickHouse(clickHouse, ca("ca"))).toEqual([[1]])
    })
  )

  it.effect(
    "TLS is missed in a warning that says what to set, where a connection goes to another machine without it",
    () =>
      Effect.gen(function* () {
        /** What is logged when the layers are built, for which no connection is made. */
        const warnings = (postgresUrl: string, clickHouseUrl: string) => {
          const lines: Array<string> = []
          const logger = Logger.make<unknown, void>(({ message }) => void lines.push(String(message)))
          return clickHouse(clickHouseUrl).pipe(
            Layer.merge(
              Postgres.layer({
                url: Redacted.make(postgresUrl),
                maxConnections: 3,
                connectTimeout: Duration.seconds(5)
              })
            ),
            Layer.build,
            Effect.scoped,
            Effect.provide(
              Layer.merge(Logger.replace(Logger.defaultLogger, logger), Logger.minimumLogLevel(LogLevel.Warning))
            ),
            Effect.as(lines)
          )
        }
        const warned = yield* warnings(
          "postgres://ada:hunter2@db.example.com/app",
          "http://ada:hunter2@ch.example.com:8123"
        )
        expect([...warned].sort()).toEqual([
          expect.stringMatching(/^The connection to ClickHouse at ch\.example\.com has no TLS.*CLICKHOUSE_URL/),
          expect.stringMatching(/^The connection to Postgres at db\.example\.com has no TLS.*sslmode=verify-full/)
        ])
        expect(warned.join()).not.toContain("hunter2")
        for (const [postgresUrl, clickHouseUrl] of [
          ["postgres://ada@localhost/app", "http://127.0.0.1:8123"],
          ["postgres:///app?host=/var/run/postgresql", "http://[::1]:8123"],
          ["postgres://ada@db.example.com/app?sslmode=verify-full", "https://ch.example.com"],
          ["postgres://ada@db.example.com/app?sslmode=disable", "http://localhost"]
        ] as const) {
          expect(yield* warnings(postgresUrl, clickHouseUrl)).toEqual([])
        }
      })
  )

  it.scoped("TLS says which file is missing, and shows no address with a password", () =>
    Effect.gen(function* () {
      const { DATABASE_URL = "" } = yield* Environment.Environment
      const url = new URL(DATABASE_URL)
      url.password = PASSWORD
      const error = yield* Effect.flip(askPostgres(trusting(url, "/nowhere/ca.pem")))
      expect(error.message).toContain("/nowhere/ca.pem")
      expect(error.message).not.toContain(PASSWORD)
      const other = yield* Effect.flip(askClickHouse("https://localhost:1", "/nowhere/ca.pem", PASSWORD))
      expect(other.message).toContain("/nowhere/ca.pem")
      expect(other.message).not.toContain(PASSWORD)
    })
  )
})
