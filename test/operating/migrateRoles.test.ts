/** The roles of the outbox as migrate makes them: whoever runs it, and however often. */
import * as SqlClient from "@effect/sql/SqlClient"
import * as PgClient from "@effect/sql-pg/PgClient"
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { EmbeddedPostgres, layer as postgres } from "../../src/embedded/EmbeddedPostgres.ts"
import * as Migrations from "../../src/Migrations.ts"
import * as Cli from "../support/cli.ts"
import * as Environment from "../support/environment.ts"
import * as Login from "../support/login.ts"

const done = { code: 0, stderr: "" }

/** On a server of the test's own, which knows no role yet. */
const onServer = <A, E, R>(test: Effect.Effect<A, E, R>) => Effect.provide(Effect.scoped(test), postgres())

/** A database of a server, that belongs to a role made with these attributes. */
const makeDatabase = (name: string, attributes: string) =>
  Effect.gen(function* () {
    const server = yield* EmbeddedPostgres
    const admin = yield* Login.session(server)
    yield* admin(`CREATE ROLE ${name} LOGIN ${attributes}`)
    yield* admin(`CREATE DATABASE ${name} OWNER ${name}`)
    const url = new URL(server.url)
    url.pathname = `/${name}`
    const asAdmin = url.href
    url.username = name
    return {
      url: url.href,
      admin: yield* Login.session({ url: asAdmin }),
      owner: yield* Login.session({ url: url.href })
    }
  })

const migrate = (url: string) => Effect.provide(Migrations.postgres, PgClient.layer({ url: Redacted.make(url) }))

/** What the roles may do, as the catalogue has it. */
const PRIVILEGES = `
  SELECT
    rolname AS role,
    has_schema_privilege(rolname, 'outbox', 'USAGE') AS enters,
    has_function_privilege(rolname, 'outbox.publish_all(text[],jsonb[],timestamptz[],text[],bigint[],uuid[],text)', 'EXECUTE') AS publishes,
    has_table_privilege(rolname, 'outbox.event', 'SELECT') AS reads,
    has_table_privilege(rolname, 'outbox.batch', 'UPDATE') AS delivers,
    has_function_privilege(rolname, 'outbox.pause_relays(text,text)', 'EXECUTE') AS operates,
    has_table_privilege(rolname, 'outbox.event', 'DELETE') AS deletes
  FROM pg_roles
  WHERE rolname LIKE 'outbox\\_%'
  ORDER BY rolname
`

const NOTHING = { enters: true, publishes: false, reads: false, delivers: false, operates: false, deletes: false }

const GRANTED = [
  { ...NOTHING, role: "outbox_operator", reads: true, operates: true },
  { ...NOTHING, role: "outbox_publisher", publishes: true },
  { ...NOTHING, role: "outbox_reader", reads: true },
  { ...NOTHING, role: "outbox_relay", reads: true, delivers: true }
]

layer(Environment.layer(), { excludeTestServices: true })((it) => {
  it.scoped(
    "migrate makes the roles if it may create roles: groups, in which nobody logs in, for the owner to grant",
    () =>
      Effect.gen(function* () {
        const { admin, owner, url } = yield* makeDatabase("shop", "CREATEROLE")
        yield* migrate(url)
        expect(yield* admin(PRIVILEGES)).toEqual(GRANTED)
        expect(
          yield* admin(`
          SELECT DISTINCT rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls
          FROM pg_roles
          WHERE rolname LIKE 'outbox\\_%'
        `)
        ).toEqual([
          {
            rolcanlogin: false,
            rolsuper: false,
            rolcreaterole: false,
            rolcreatedb: false,
            rolreplication: false,
            rolbypassrls: false
          }
        ])
        yield* owner("CREATE ROLE app LOGIN")
        yield* owner("GRANT outbox_publisher TO app")
        const asApp = new URL(url)
        asApp.username = "app"
        const app = yield* Login.session({ url: asApp.href })
        expect(yield* app(`SELECT outbox.publish('by_app', '{}')`)).toHaveLength(1)
      }).pipe(onServer)
  )

  it.scoped(
    "migrate goes on without the roles if it may not create them, says what to run, and grants once they are there",
    () =>
      Effect.gen(function* () {
        const { admin, owner, url } = yield* makeDatabase("shop", "")
        const run = Cli.run(["migrate"], { variables: { DATABASE_URL: url, LOG_FORMAT: "json" } })
        const first = yield* run
        expect(first).toMatchObject({ code: 0, stdout: expect.stringContaining("Postgres: migrated, 0001_outbox") })
        expect(first.stderr.split("\n")).toHaveLength(2)
        const [, statements = ""] = /run \\"(CREATE ROLE [^"]+;)\\"/.exec(first.stderr) ?? []
        expect(yield* owner(`SELECT outbox.publish('by_owner', '{}')`)).toHaveLength(1)
        expect(yield* admin(PRIVILEGES)).toEqual([])

        yield* admin(statements)
        expect(yield* run).toMatchObject({ ...done, stdout: expect.stringContaining("Postgres: was up to date") })
        expect(yield* admin(PRIVILEGES)).toEqual(GRANTED)
      }).pipe(onServer)
  )

  it.scoped(
    "migrate makes the roles once for all databases of a cluster, also where all are migrated at the same time",
    () =>
      Effect.gen(function* () {
        const databases = yield* Effect.forEach(["a", "b", "c", "d", "e", "f"], (name) =>
          makeDatabase(name, "CREATEROLE")
        )
        // Twice each, as by two relays that bring their schema along.
        yield* Effect.forEach([...databases, ...databases], ({ url }) => migrate(url), { concurrency: "unbounded" })
        for (const { admin } of databases) expect(yield* admin(PRIVILEGES)).toEqual(GRANTED)
      }).pipe(onServer)
  )

  it.scoped("migrate takes away from the roles what was granted to them besides", () =>
    Effect.gen(function* () {
      const { DATABASE_URL = "" } = yield* Environment.Environment
      const sql = yield* SqlClient.SqlClient
      const privileges = sql.unsafe(PRIVILEGES)
      expect(yield* privileges).toEqual(GRANTED)
      yield* sql`GRANT DELETE ON outbox.event TO outbox_publisher WITH GRANT OPTION`
      yield* sql`GRANT ALL ON ALL FUNCTIONS IN SCHEMA outbox TO PUBLIC`
      expect(yield* privileges).not.toEqual(GRANTED)
      yield* migrate(DATABASE_URL)
      expect(yield* privileges).toEqual(GRANTED)
    })
  )
})
