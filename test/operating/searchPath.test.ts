/**
 * Functions that an application's role made in `public`, with arguments that fit better than those of Postgres' own: whom
 * they run as is who calls them.
 */
import * as SqlClient from "@effect/sql/SqlClient"
import * as PgClient from "@effect/sql-pg/PgClient"
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { ClickHouse } from "../../src/ClickHouse.ts"
import * as Config from "../../src/Config.ts"
import { EmbeddedPostgres, layer as postgres } from "../../src/embedded/EmbeddedPostgres.ts"
import * as Migrations from "../../src/Migrations.ts"
import * as Postgres from "../../src/Postgres.ts"
import * as Cli from "../support/cli.ts"
import * as Environment from "../support/environment.ts"
import { counts } from "../support/eventLog.ts"
import * as Login from "../support/login.ts"
import { until } from "../support/wait.ts"

const TYPES = ["bigint", "integer", "json", "jsonb", "smallint", "text", "timestamptz", "uuid", "xid8"]

const done = { code: 0, stderr: "" }

/** What takes any type, so that a function of one type goes before it. */
const TRAPS = [
  ...["text", "integer", "bigint"].flatMap((type) => [`format(text, ${type})`, `format(text, ${type}, ${type})`]),
  ...TYPES.flatMap((type) => [
    ...[`unnest(${type}[])`, `cardinality(${type}[])`, `array_length(${type}[], integer)`, `count(${type})`],
    ...[
      `to_jsonb(${type})`,
      `to_json(${type})`,
      `concat(${type})`,
      `concat(text, ${type})`,
      `concat_ws(text, ${type})`
    ],
    ...[`jsonb_build_object(text, ${type})`, `jsonb_build_object(text, ${type}, text, ${type})`]
  ])
]

/**
 * Makes the traps, as `role`, in a database where it may. Each counts in a sequence, which a rollback leaves as it is, and
 * fails: what fell in is seen by either.
 */
const setTraps = (url: string, role: string) =>
  Effect.gen(function* () {
    const address = new URL(url)
    address.username = role
    const query = yield* Login.session({ url: address.href })
    yield* query("CREATE SEQUENCE public.caught; GRANT ALL ON SEQUENCE public.caught TO PUBLIC")
    const body = `LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('public.caught'); RAISE 'caught %', current_user; END $$`
    for (const trap of TRAPS) yield* query(`CREATE FUNCTION public.${trap} RETURNS text ${body}`)
    for (const type of TYPES) {
      yield* query(`CREATE FUNCTION public.trap(text, ${type}) RETURNS text ${body}`)
      yield* query(`CREATE AGGREGATE public.array_agg(${type}) (SFUNC = public.trap, STYPE = text, INITCOND = '')`)
      yield* query(`CREATE AGGREGATE public.jsonb_agg(${type}) (SFUNC = public.trap, STYPE = text, INITCOND = '')`)
    }
    return {
      query,
      caught: Effect.map(query("SELECT is_called FROM public.caught"), ([row]) => row?.is_called === true)
    }
  })

/** A database of `ada`, in whose `public` a publisher, `mallory`, has set traps. */
const trappedDatabase = Effect.gen(function* () {
  const server = yield* EmbeddedPostgres
  const admin = yield* Login.session(server)
  yield* admin("CREATE ROLE ada LOGIN SUPERUSER")
  yield* admin("CREATE ROLE outbox_publisher")
  yield* admin("CREATE ROLE mallory LOGIN IN ROLE outbox_publisher")
  yield* admin("CREATE DATABASE shop OWNER ada")
  const url = new URL(server.url)
  url.pathname = "/shop"
  url.username = "ada"
  const owner = yield* Login.session({ url: url.href })
  // As every role may in a database that began before Postgres 15.
  yield* owner("GRANT CREATE ON SCHEMA public TO PUBLIC")
  return { url: url.href, owner, ...(yield* setTraps(url.href, "mallory")) }
})

const onServer = <A, E, R>(test: Effect.Effect<A, E, R>) => Effect.provide(Effect.scoped(test), postgres())

layer(Environment.layer(), { excludeTestServices: true })((it) => {
  it.scoped(
    "What a publisher made in public is called by who does not say whose function is meant: the test would see it",
    () =>
      Effect.gen(function* () {
        const { caught, owner } = yield* trappedDatabase
        expect(yield* caught).toBe(false)
        for (const call of [
          "format('%s', 1)",
          "jsonb_build_object('a', 'b'::text)",
          "(SELECT array_agg(id) FROM (VALUES ('1'::xid8)) AS ids (id))"
        ]) {
          expect(yield* Effect.flip(owner(`SELECT ${call}`))).toMatchObject({ message: "caught ada" })
        }
        expect(yield* caught).toBe(true)
      }).pipe(onServer)
  )

  it.scoped(
    "What a publisher made in public is not called by migrate on a pool of anybody's, nor bound to what migrate makes",
    () =>
      Effect.gen(function* () {
        const { caught, owner, url } = yield* trappedDatabase
        const pool = PgClient.layer({ url: Redacted.make(url) })
        yield* Effect.provide(Migrations.postgres, pool)
        yield* Effect.provide(Migrations.postgres, pool)
        expect(yield* caught).toBe(false)
        const bound = owner(`
        SELECT DISTINCT refobjid::regprocedure::text
        FROM pg_depend JOIN pg_proc AS trap ON trap.oid = refobjid
        LEFT JOIN pg_proc AS user_of ON classid = 'pg_proc'::regclass AND user_of.oid = objid
        WHERE refclassid = 'pg_proc'::regclass
          AND trap.pronamespace = 'public'::regnamespace
          AND user_of.pronamespace IS DISTINCT FROM 'public'::regnamespace
      `)
        expect(yield* bound).toEqual([])
      }).pipe(onServer)
  )

  it.scoped("What a publisher made in public is called neither by the relay nor by any command", () =>
    Effect.gen(function* () {
      const { caught, owner, url } = yield* trappedDatabase
      const variables = { DATABASE_URL: url, OUTBOX_LINGER: "20 millis", OUTBOX_EVENT_RETENTION: "1 hour" }
      const run = (...args: ReadonlyArray<string>) => Cli.run(args, { variables })
      expect(yield* run("migrate")).toMatchObject(done)
      const relay = yield* Cli.start(["relay"], { variables })
      yield* owner("SELECT outbox.publish('good', '{}') FROM generate_series(1, 5)")
      yield* owner(`SELECT outbox.publish('bad', '{"n": 1e30}') FROM generate_series(1, 4)`)
      yield* until(counts, ({ events }) => events === 5)
      yield* until(owner("SELECT FROM outbox.batch_failure"), (rows) => rows.length === 4)
      const [event] = yield* owner("SELECT event_id::text AS id FROM outbox.event LIMIT 1")
      for (const command of [
        ["status"],
        ["failures", "list"],
        ["failures", "show", "1"],
        ["failures", "edit", "1", "--context", "{}"],
        ["failures", "replay", "1"],
        ["failures", "discard", "2", "--note", "a test"],
        ["failures", "reopen", "2"],
        ["failures", "resolve", "3", "--note", "a test"],
        ["where", String(event?.id)],
        ["batches", "list"],
        ["batches", "show", "1"],
        ["incidents"],
        ["pause", "--reason", "a test"],
        ["resume"]
      ]) {
        expect({ command, ...(yield* run(...command)) }).toMatchObject({ command, ...done })
      }
      yield* until(counts, ({ events }) => events === 6)
      yield* Effect.flatMap(ClickHouse, ({ command }) => command("TRUNCATE TABLE event_log"))
      expect(yield* run("verify", "--repair")).toMatchObject(done)
      yield* until(counts, ({ events }) => events === 6)
      yield* relay.signal("SIGTERM")
      const { code, stderr } = yield* relay.ended
      expect({ code, caught: stderr.includes("caught") }).toEqual({ code: 0, caught: false })
      expect(yield* run("restamp")).toMatchObject(done)
      expect(yield* run("relay", "--until-empty")).toMatchObject({ code: 0 })
      expect(yield* caught).toBe(false)
    }).pipe(onServer)
  )

  it.effect(
    "What a publisher made in public is not in the path of the relay's connections, unless DATABASE_URL has options of its own",
    () =>
      Effect.gen(function* () {
        const { DATABASE_URL = "" } = yield* Environment.Environment
        const config = yield* Config.postgres
        const path = (options: string) => {
          const url = Redacted.make(`${DATABASE_URL}${options}`)
          return Effect.flatMap(SqlClient.SqlClient, (sql) => sql`SHOW search_path`).pipe(
            Effect.provide(Postgres.layerPinned({ ...config, url }))
          )
        }
        expect(yield* path("")).toEqual([{ search_path: "pg_catalog, pg_temp" }])
        expect(yield* path("?options=")).toEqual([{ search_path: '"$user", public' }])
        expect(yield* path("?options=-c%20search_path%3Doutbox")).toEqual([{ search_path: "outbox" }])
      })
  )
})
