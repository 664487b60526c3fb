/** Secrets, and that nothing which this program says, sends or answers has one of them in it, least of all when it fails. */
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { inject } from "vitest"
import * as EmbeddedPostgres from "../../src/embedded/EmbeddedPostgres.ts"
import { files } from "../support/certificates.ts"
import * as Cli from "../support/cli.ts"
import * as Environment from "../support/environment.ts"
import * as Login from "../support/login.ts"
import { ask } from "../support/operator.ts"
import * as Otlp from "../support/otlp.ts"
import { until } from "../support/wait.ts"

/** Of characters that are written in another way in a URL, in a header and in a shell. */
const SECRETS = {
  postgres: "pg+Hidden/1%é",
  clickHouse: "ch+Hidden/2%é",
  clickHouseUrl: "url+Hidden/3%é",
  token: "token+Hidden/4%",
  collector: "collector-Hidden-5"
}

/** Ways to write each, as they are and as what carries them has them. */
const WRITTEN = Object.values(SECRETS).flatMap((secret) => {
  // In three ways, by how many characters stand before it; without the ends, which depend on what is around it.
  const base64 = ["", "a", "aa"].map((before) => Buffer.from(`${before}${secret}`).toString("base64").slice(4, -4))
  const escaped = JSON.stringify(secret).slice(1, -1)
  return [
    secret,
    escaped,
    encodeURIComponent(secret),
    encodeURI(secret),
    new URLSearchParams({ secret }).toString().slice(7),
    ...base64
  ]
})

/** The secrets that are in a text, however they are written. */
const found = (text: string): ReadonlyArray<string> => WRITTEN.filter((written) => text.includes(written))

const withPassword = (url: string, password: string, username?: string): string => {
  const changed = new URL(url)
  changed.password = encodeURIComponent(password)
  if (username !== undefined) changed.username = username
  return changed.href
}

/** What the operator API shows. Where a database does not answer, it says why. */
const API = [
  ...["status", "failures", "batches", "incidents", "relay", "audit", "session", "overview", "systems"],
  ...["event-log", "event-log/names", "event-log/01a1fd0b-ced2-7714-947a-c7f7d3851535"]
]

/** A role that has the secret for its password, and may do everything. */
const loginWithSecret = (url: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const role = `ada_${process.pid}_${Date.now()}`
    yield* Effect.acquireRelease(
      sql.unsafe(`CREATE ROLE ${role} LOGIN PASSWORD '${SECRETS.postgres}' IN ROLE outbox_relay, outbox_operator`),
      () => Effect.orDie(sql.unsafe(`DROP OWNED BY ${role}; DROP ROLE ${role}`))
    )
    return withPassword(url, SECRETS.postgres, role)
  })

layer(Environment.layer(), { excludeTestServices: true })((it) => {
  it.effect("No secret is seen by a test that would not find it", () =>
    Effect.sync(() => {
      const { clickHouse, postgres } = SECRETS
      expect(found(`password is ${postgres}`)).not.toEqual([])
      expect(found(JSON.stringify({ postgres }))).not.toEqual([])
      expect(found(withPassword("postgres://ada@localhost/shop", postgres))).not.toEqual([])
      for (const user of ["a", "ad", "ada"]) {
        expect(found(`Basic ${Buffer.from(`${user}:${clickHouse}`).toString("base64")}`)).not.toEqual([])
      }
      expect(found("nothing of the kind")).toEqual([])
    })
  )

  const relays = {
    "where all is well": { format: "json", clickHouse: inject("clickhouseUrl"), ready: 200 },
    "where ClickHouse refuses the password": {
      format: "pretty",
      clickHouse: withPassword(inject("clickhouseUrl"), SECRETS.clickHouseUrl, "ada"),
      ready: 503
    }
  }
  for (const [what, { clickHouse, format, ready }] of Object.entries(relays)) {
    it.scoped(
      `No secret is seen ${what}: in a relay's logs (${format}), answers, metrics, and what it sends to a collector`,
      () =>
        Effect.gen(function* () {
          const { DATABASE_URL = "" } = yield* Environment.Environment
          const sql = yield* SqlClient.SqlClient
          const collector = yield* Otlp.make()
          const relay = yield* Cli.start(["relay"], {
            variables: {
              DATABASE_URL: yield* loginWithSecret(DATABASE_URL),
              CLICKHOUSE_URL: clickHouse,
              LOG_FORMAT: format,
              LOG_LEVEL: "All",
              OUTBOX_HTTP_PORT: "0",
              OUTBOX_HTTP_TOKEN: SECRETS.token,
              OUTBOX_INCIDENT_AFTER: "1 millis",
              OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
              OTEL_EXPORTER_OTLP_HEADERS: `authorization=${SECRETS.collector}`,
              OTEL_METRIC_EXPORT_INTERVAL: "200"
            }
          })
          const url = yield* relay.url
          yield* sql`SELECT outbox.publish('seen', '{}'), outbox.publish('refused', '{"n": 1e30}')`
          const authorized = { headers: { authorization: `Bearer ${SECRETS.token}` } }
          const settled = ready === 200 ? "GET /api/failures" : "GET /api/status"
          yield* until(ask(url, settled, authorized), ({ json }) => JSON.stringify(json).includes('"code":'))
          yield* until(ask(url, "GET /readyz"), ({ status }) => status === ready)
          const answers = yield* Effect.forEach(
            [
              ...API.map((path) => `GET /api/${path}`),
              ...["metrics", "readyz", "healthz", "version", "openapi.json", "docs", "nowhere"].map(
                (path) => `GET /${path}`
              )
            ],
            (request) => Effect.all([ask(url, request, authorized), ask(url, request)])
          )
          const seen = answers.flat().map(({ headers, text }) => JSON.stringify(headers) + text)
          expect(seen.join()).toContain("outbox_build_info")
          const sent = yield* until(collector.requests, (requests) =>
            ["/v1/traces", "/v1/metrics", "/v1/logs"].every((path) => requests.some((request) => request.path === path))
          )
          expect(sent[0]?.headers.authorization).toBe(SECRETS.collector)
          yield* relay.signal("SIGTERM")
          const { code, stderr, stdout } = yield* relay.ended
          expect(code).toBe(0)
          const bodies = (yield* collector.requests).map(({ body }) => body.toString())
          for (const text of [stdout, stderr, ...seen, ...bodies]) expect(found(text)).toEqual([])
        })
    )
  }

  {
    interface Case {
      readonly args: ReadonlyArray<string>
      readonly variables: Readonly<Record<string, string>>
      /** On standard error. */
      readonly says: string
      readonly stdin?: string
    }

    const postgresUrl = (rest: string) => `postgres://ada:${encodeURIComponent(SECRETS.postgres)}@${rest}`
    const clickHouseUrl = (rest: string) => `http://ada:${encodeURIComponent(SECRETS.clickHouseUrl)}@${rest}`

    const cases: Record<string, Case> = {
      "Postgres is not there": {
        args: ["status"],
        variables: { DATABASE_URL: postgresUrl("127.0.0.1:1/shop") },
        says: "cannot be reached"
      },
      "Postgres' name does not resolve": {
        args: ["status"],
        variables: { DATABASE_URL: postgresUrl("nowhere.invalid/shop") },
        says: "nowhere.invalid"
      },
      "the URL of Postgres is of another kind": {
        args: ["status"],
        variables: { DATABASE_URL: postgresUrl("localhost/shop").replace("postgres:", "mysql:") },
        says: "DATABASE_URL: must be a URL"
      },
      "the URL of Postgres is none, because its password is not encoded": {
        args: ["status"],
        variables: { DATABASE_URL: `postgres://ada:${SECRETS.postgres}@localhost/shop` },
        says: "DATABASE_URL: is not a URL that can be read"
      },
      "the URL of Postgres has a percent sign that means nothing": {
        args: ["status"],
        variables: { DATABASE_URL: `postgres://ada:${SECRETS.postgres.replace("/", "%2F")}@127.0.0.1:1/shop` },
        says: "Postgres at 127.0.0.1:1 cannot be reached"
      },
      "the URL of Postgres names a file that is not there": {
        args: ["status"],
        variables: { DATABASE_URL: postgresUrl("localhost/shop?sslmode=verify-full&sslrootcert=/nowhere/ca.pem") },
        says: "/nowhere/ca.pem"
      },
      "the database has no outbox": {
        args: ["status"],
        variables: { DATABASE_URL: inject("postgresUrl") },
        says: "clickhouse-outbox migrate"
      },
      "ClickHouse is not there": {
        args: ["migrate"],
        variables: { CLICKHOUSE_URL: clickHouseUrl("127.0.0.1:1") },
        says: "was not reached"
      },
      "ClickHouse refuses user and password": {
        args: ["migrate"],
        variables: {
          CLICKHOUSE_URL: inject("clickhouseUrl"),
          CLICKHOUSE_USER: "ada",
          CLICKHOUSE_PASSWORD: SECRETS.clickHouse
        },
        says: "Code: 516"
      },
      "ClickHouse refuses those of its URL": {
        args: ["migrate"],
        variables: { CLICKHOUSE_URL: withPassword(inject("clickhouseUrl"), SECRETS.clickHouseUrl, "ada") },
        says: "Code: 516"
      },
      "the URL of ClickHouse is none": {
        args: ["migrate"],
        variables: { CLICKHOUSE_URL: `http://ada:${SECRETS.clickHouseUrl}@localhost:port` },
        says: "CLICKHOUSE_URL: is not a URL that can be read"
      },
      "the URL of ClickHouse has what its client does not know": {
        args: ["migrate"],
        variables: { CLICKHOUSE_URL: clickHouseUrl("localhost:8123?unheard_of=1") },
        says: "the client cannot be set up"
      },
      "a file is not one of events": {
        args: ["publish", "-"],
        variables: {},
        stdin: "nonsense\n",
        says: "Nothing was published"
      },
      "what is looked for is not there": { args: ["failures", "show", "1000"], variables: {}, says: "1000" },
      "a variable is wrong": {
        args: ["relay"],
        variables: { OUTBOX_HTTP_PORT: "x", OUTBOX_WORKERS: "y", LOG_LEVEL: "Info" },
        says: "OUTBOX_HTTP_PORT"
      }
    }

    for (const [what, { args, says, stdin, variables }] of Object.entries(cases)) {
      it.scoped(what, () =>
        Effect.gen(function* () {
          const { DATABASE_URL = "" } = yield* Environment.Environment
          const url = args[0] === "migrate" ? DATABASE_URL : yield* loginWithSecret(DATABASE_URL)
          const { code, stderr, stdout } = yield* Cli.run(args, {
            ...(stdin !== undefined && { stdin }),
            variables: {
              DATABASE_URL: url,
              CLICKHOUSE_PASSWORD: "",
              OUTBOX_HTTP_TOKEN: SECRETS.token,
              LOG_FORMAT: "pretty",
              LOG_LEVEL: "All",
              ...variables
            }
          })
          expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining(says) })
          expect(found(stdout + stderr)).toEqual([])
        })
      )
    }

    it.scoped(
      "No secret is seen where something fails Postgres has gone away: in what the operator API says of it",
      () =>
        Effect.gen(function* () {
          const untilGone = yield* Scope.fork(yield* Effect.scope, ExecutionStrategy.sequential)
          const server = yield* Scope.extend(EmbeddedPostgres.make(), untilGone)
          const variables = {
            DATABASE_URL: withPassword(server.url, SECRETS.postgres),
            LOG_LEVEL: "All",
            OUTBOX_HTTP_PORT: "0",
            OUTBOX_HTTP_TOKEN: SECRETS.token
          }
          expect(yield* Cli.run(["migrate"], { variables })).toMatchObject({ code: 0 })
          const relay = yield* Cli.start(["relay"], { variables })
          const url = yield* relay.url
          const authorized = { headers: { authorization: `Bearer ${SECRETS.token}` } }
          yield* until(ask(url, "GET /api/systems", authorized), ({ status }) => status === 200)
          yield* Scope.close(untilGone, Exit.void)
          const systems = yield* until(ask(url, "GET /api/systems", authorized), ({ text }) =>
            text.includes(`"reachable":false`)
          )
          const answers = yield* Effect.forEach(API, (path) => ask(url, `GET /api/${path}`, authorized))
          yield* relay.signal("SIGTERM")
          const { stderr, stdout } = yield* relay.ended
          for (const text of [systems.text, ...answers.map(({ text }) => text), stderr, stdout]) {
            expect(found(text)).toEqual([])
          }
        })
    )

    it.scoped("No secret is seen where something fails Postgres refuses the password", () =>
      Effect.gen(function* () {
        const path = yield* files({ hba: "host all postgres all trust\nhost all all all scram-sha-256\n" })
        const server = yield* EmbeddedPostgres.make({ settings: { hba_file: path("hba") } })
        const admin = yield* Login.session(server)
        yield* admin("CREATE ROLE ada LOGIN PASSWORD 'another'")
        const variables = { DATABASE_URL: withPassword(server.url, SECRETS.postgres, "ada"), LOG_LEVEL: "All" }
        for (const command of ["status", "migrate", "relay"]) {
          const { code, stderr, stdout } = yield* Cli.run([command], { variables })
          const says = 'password authentication failed for user "ada"'
          expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining(says) })
          expect(found(stdout + stderr)).toEqual([])
        }
      })
    )
  }
})
