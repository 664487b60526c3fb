/** Whatever a database is set to, encoded in and sorted by, what is delivered is what was published. */
import * as SqlClient from "@effect/sql/SqlClient"
import * as PgClient from "@effect/sql-pg/PgClient"
import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { inject } from "vitest"
import * as Event from "../../src/Event.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import * as Migrations from "../../src/Migrations.ts"
import * as Operations from "../../src/Operations.ts"
import { OutboxStore } from "../../src/OutboxStore.ts"
import * as Cli from "../support/cli.ts"
import * as Environment from "../support/environment.ts"
import { eventLog } from "../support/eventLog.ts"
import { drain } from "../support/relay.ts"
import { until } from "../support/wait.ts"

const setInDatabase = (settings: Readonly<Record<string, string>>) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const [database] = yield* sql<{ name: string }>`SELECT quote_ident(current_database()) AS name`
    yield* Effect.forEach(Object.entries(settings), ([name, value]) =>
      sql.unsafe(`ALTER DATABASE ${database?.name} SET ${name} = '${value}'`)
    )
  })

/** What a session could begin with, so that a statement would fail, never end, or mean something else. */
const SETTINGS = {
  statement_timeout: "1ms",
  lock_timeout: "1ms",
  idle_in_transaction_session_timeout: "1ms",
  default_transaction_read_only: "on",
  default_transaction_isolation: "serializable",
  default_transaction_deferrable: "on",
  DateStyle: "German, DMY",
  IntervalStyle: "sql_standard",
  TimeZone: "Asia/Kathmandu",
  extra_float_digits: "-15",
  bytea_output: "escape",
  array_nulls: "off",
  standard_conforming_strings: "off",
  transform_null_equals: "on",
  quote_all_identifiers: "on",
  synchronous_commit: "off",
  session_replication_role: "replica",
  search_path: "public",
  enable_indexscan: "off",
  enable_indexonlyscan: "off",
  enable_nestloop: "off",
  enable_hashagg: "off",
  plan_cache_mode: "force_generic_plan",
  default_tablespace: "",
  row_security: "off"
}

const numbered = (n: number) => Event.make({ eventType: "numbered", eventContext: { n } })

it.live("A relay delivers, and verify compares, whatever the database's own settings are", () =>
  Effect.gen(function* () {
    const ids = yield* EventPublisher.publishAll([1, 2, 3].map(numbered))
    yield* EventPublisher.publish(Event.make({ eventType: "refused", eventContext: { n: 1e30 } }))
    yield* setInDatabase(SETTINGS)
    expect(yield* Cli.run(["relay", "--until-empty"])).toMatchObject({ code: 0 })
    expect((yield* eventLog).map(({ eventId }) => eventId).sort()).toEqual([...ids].sort())
    const report = JSON.parse((yield* Cli.run(["verify", "--json"])).stdout.trimEnd().split("\n").at(-1) ?? "")
    expect(report).toMatchObject({ compared: { events: 3 }, missing: { events: 0 }, failed: { events: 1 } })
    expect(yield* Cli.run(["failures", "discard", "1", "--note", "tried"])).toMatchObject({ code: 0 })
    expect(yield* Cli.run(["restamp"])).toMatchObject({ code: 0 })
  }).pipe(Environment.fresh())
)

it.live(
  "A relay delivers, and verify compares, a batch for which ClickHouse takes longer than transaction_timeout and statement_timeout",
  () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const [{ version } = { version: 0 }] = yield* sql<{ version: number }>`
        SELECT current_setting('server_version_num')::integer AS version
      `
      yield* EventPublisher.publishAll([1, 2, 3].map(numbered))
      yield* setInDatabase({ statement_timeout: "1s", ...(version >= 170_000 && { transaction_timeout: "1s" }) })
      yield* Effect.gen(function* () {
        const store = yield* OutboxStore
        const sealed = yield* store.seal({ flush: true })
        if (sealed._tag !== "Batch") return expect.fail(`sealed ${sealed._tag}`)
        const rows = yield* store.read(sealed.batch).pipe(
          Stream.tap(() => Effect.sleep("2 seconds")),
          Stream.decodeText(),
          Stream.runFold("", (all, part) => all + part)
        )
        expect(rows.trimEnd().split("\n")).toHaveLength(3)
      }).pipe(Effect.provide(Environment.another()))
    }).pipe(Environment.fresh())
)

it.live("A relay delivers, and verify compares, not a part of what a policy of the database hides", () =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* EventPublisher.publishAll([1, 2, 3].map(numbered))
    const store = yield* OutboxStore
    yield* sql.unsafe(`
        CREATE ROLE ${ROLE} LOGIN;
        GRANT outbox_relay TO ${ROLE};
        ALTER TABLE outbox.event ENABLE ROW LEVEL SECURITY;
        CREATE POLICY hidden ON outbox.event USING (event_context ->> 'n' <> '2')
      `)
    const url = new URL((yield* Environment.Environment).DATABASE_URL ?? "")
    url.username = ROLE
    const told = yield* Cli.run(["status"], { variables: { DATABASE_URL: url.href } })
    expect(told).toMatchObject({ code: 1, stderr: expect.stringContaining("row-level security policy") })
    expect(yield* store.status).toMatchObject({ backlog: 3 })
  }).pipe(
    Effect.ensuring(
      Effect.orDie(Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe(`DROP OWNED BY ${ROLE}; DROP ROLE ${ROLE}`)))
    ),
    Environment.fresh()
  )
)

const ROLE = `relay_${process.pid}_${Date.now()}`

/** A database of its own, which is migrated unless that is refused. */
const inDatabase =
  (options: string) =>
  <A, E, R>(use: (url: string) => Effect.Effect<A, E, R>) =>
    Effect.gen(function* () {
      const name = `encoded_${process.pid}_${Math.random().toString(36).slice(2)}`
      const onServer = (statement: string) =>
        Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe(statement)).pipe(
          Effect.provide(PgClient.layer({ url: Redacted.make(inject("postgresUrl")) }))
        )
      yield* Effect.acquireRelease(onServer(`CREATE DATABASE ${name} TEMPLATE template0 ${options}`), () =>
        Effect.orDie(onServer(`DROP DATABASE ${name} WITH (FORCE)`))
      )
      const url = new URL(inject("postgresUrl"))
      url.pathname = `/${name}`
      return yield* use(url.href)
    }).pipe(Effect.scoped)

const migrate = (url: string) => Migrations.postgres.pipe(Effect.provide(PgClient.layer({ url: Redacted.make(url) })))

/** The characters that each of them has, beyond ASCII. */
const ENCODINGS = {
  UTF8: "Grüße, 中文, 👩‍👩‍👧",
  LATIN1: "Grüße",
  LATIN9: "Grüße für 5 €",
  WIN1252: "“Grüße” für 5 €",
  WIN1251: "Привет",
  KOI8R: "Привет",
  ISO_8859_7: "Γειά σου",
  EUC_JP: "日本語",
  EUC_KR: "한국어",
  EUC_CN: "中文"
}

{
  for (const [encoding, text] of Object.entries(ENCODINGS)) {
    it.live(`A database with encoding ${encoding}: its characters arrive as they were published`, () =>
      inDatabase(`ENCODING '${encoding}' LOCALE 'C' LOCALE_PROVIDER libc`)((url) =>
        Effect.gen(function* () {
          yield* migrate(url)
          yield* Effect.gen(function* () {
            const event = Event.make({ eventType: text, environment: text, eventContext: { [text]: text } })
            yield* EventPublisher.publish(event)
            yield* EventPublisher.publishAll([event, numbered(1)])
            yield* drain
            const delivered = yield* eventLog
            expect(delivered.filter(({ eventType }) => eventType === text)).toEqual([
              expect.objectContaining({ environment: text, eventContext: { [text]: text } }),
              expect.objectContaining({ environment: text, eventContext: { [text]: text } })
            ])
            expect(delivered).toHaveLength(3)
          }).pipe(Effect.provide(Environment.another({ DATABASE_URL: url })))
        })
      ).pipe(Environment.fresh())
    )
  }

  it.live("A database whose encoding has characters that are none in UTF-8 takes no event with one", () =>
    inDatabase("ENCODING 'WIN1252' LOCALE 'C' LOCALE_PROVIDER libc")((url) =>
      Effect.gen(function* () {
        yield* migrate(url)
        yield* Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          // A client that speaks the database's encoding sends such a byte unchecked.
          const UNDEFINED = `convert_from('\\x81', 'WIN1252')`
          const publishing = [
            `SELECT outbox.publish(${UNDEFINED}, '{}')`,
            `SELECT outbox.publish('a', '{}', environment => ${UNDEFINED})`,
            `SELECT outbox.publish('a', jsonb_build_object('a', ${UNDEFINED}))`,
            `SELECT outbox.publish_all(ARRAY['a'], ARRAY[jsonb_build_object('a', ${UNDEFINED})])`,
            `SELECT outbox.publish_all(ARRAY[${UNDEFINED}], ARRAY['{}'::jsonb])`
          ]
          yield* Effect.forEach(publishing, (statement) =>
            Effect.map(Effect.flip(sql.unsafe(statement)), (error) =>
              expect(String(error.cause), statement).toContain('no equivalent in encoding "UTF8"')
            )
          )
          yield* EventPublisher.publish(numbered(1))
          yield* drain
          expect(yield* eventLog).toHaveLength(1)
        }).pipe(Effect.provide(Environment.another({ DATABASE_URL: url })))
      })
    ).pipe(Environment.fresh())
  )

  it.live("A database with encoding SQL_ASCII is refused by migrate and by relays, which say why and what to do", () =>
    inDatabase("ENCODING 'SQL_ASCII' LOCALE 'C' LOCALE_PROVIDER libc")((url) =>
      Effect.gen(function* () {
        const why = /has encoding SQL_ASCII, .* CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0/
        for (const command of [["migrate"], ["relay", "--until-empty"]]) {
          const refused = yield* Cli.run(command, { variables: { DATABASE_URL: url } })
          expect(refused).toMatchObject({ code: 1, stderr: expect.stringMatching(why) })
        }
        const sql = yield* SqlClient.SqlClient
        expect(yield* sql`SELECT to_regnamespace('outbox') AS schema`).toEqual([{ schema: null }])
      }).pipe(Effect.provide(PgClient.layer({ url: Redacted.make(url) })))
    ).pipe(Environment.fresh())
  )

  const COLLATIONS = {
    "of libc": "LOCALE 'C.UTF-8' LOCALE_PROVIDER libc",
    "of ICU": "LOCALE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'tr-TR'",
    "of ICU that takes a for A": "LOCALE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'und-u-ks-level1'"
  }
  for (const [name, options] of Object.entries(COLLATIONS)) {
    it.live(`A database with a collation ${name}: types that it takes for one stay apart`, () =>
      inDatabase(`ENCODING 'UTF8' ${options}`)((url) =>
        Effect.gen(function* () {
          yield* migrate(url)
          yield* Effect.gen(function* () {
            const types = ["a", "A", "á", "i", "I", "İ", "ı", "ss", "ß"]
            yield* EventPublisher.publishAll(types.map((eventType) => Event.make({ eventType, eventContext: {} })))
            yield* drain
            expect((yield* eventLog).map(({ eventType }) => eventType).sort()).toEqual(types.toSorted())
            const report = yield* Cli.run(["verify"], { variables: { DATABASE_URL: url } })
            expect(report).toMatchObject({ code: 0, stdout: expect.stringContaining("missing      none") })
          }).pipe(Effect.provide(Environment.another({ DATABASE_URL: url })))
        })
      ).pipe(Environment.fresh())
    )
  }
}

it.live("A relay's connections are known as its own, whatever application_name DATABASE_URL has", () =>
  Effect.gen(function* () {
    const url = new URL((yield* Environment.Environment).DATABASE_URL ?? "")
    url.searchParams.set("application_name", "shop")
    yield* Cli.start(["relay"], { variables: { DATABASE_URL: url.href } })
    const { relays } = yield* Operations.Operations
    const seen = yield* until(relays, (relays) => relays.some(({ self, connections }) => !self && connections > 0))
    expect(seen.filter(({ self }) => !self)).toHaveLength(1)
  }).pipe(Effect.scoped, Effect.provide(Operations.layer), Environment.fresh())
)
