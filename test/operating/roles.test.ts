/** What each role of the outbox may do, tried by logging in as a member of it. */
import * as SqlClient from "@effect/sql/SqlClient"
import * as PgClient from "@effect/sql-pg/PgClient"
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { ClickHouse } from "../../src/ClickHouse.ts"
import * as Event from "../../src/Event.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import * as Migrations from "../../src/Migrations.ts"
import * as Cli from "../support/cli.ts"
import * as Environment from "../support/environment.ts"
import { counts } from "../support/eventLog.ts"
import * as Login from "../support/login.ts"
import { ask } from "../support/operator.ts"
import * as Relay from "../support/relay.ts"
import { until } from "../support/wait.ts"

const ROLES = ["outbox_publisher", "outbox_relay", "outbox_operator", "outbox_reader"]

/** A double beyond Float64, which ClickHouse's JSON refuses and Postgres' takes. */
const REFUSED = `{"n": 1e30}`

const denied = { code: "42501" }

const cli =
  ({ url }: Login.Login) =>
  (...args: ReadonlyArray<string>) =>
    Cli.run(args, { variables: { DATABASE_URL: url } })

const done = { code: 0, stderr: "" }

const refusedByPostgres = { code: 1, stderr: expect.stringContaining("permission denied") }

interface Relation {
  readonly name: string
  readonly kind: string
  readonly column: string
  /** Whether INSERT, and whether UPDATE and DELETE, mean anything for it. */
  readonly takesRows: boolean
  readonly writable: boolean
}

/** Every table, partition, view and sequence of the schema. */
const relations = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql<Relation>`
    SELECT
      oid::regclass::text AS name,
      relkind::text AS kind,
      (
        SELECT attname::text
        FROM pg_attribute
        WHERE attrelid = class.oid AND attnum > 0 AND attgenerated = ''
          -- An identity is refused for being one, before privileges are looked at; a view has it as its first column.
          AND attname <> 'id'
          AND pg_column_is_updatable(attrelid, attnum, false)
        ORDER BY attnum
        LIMIT 1
      ) AS column,
      -- As bits: INSERT, also by a trigger, and all three.
      pg_relation_is_updatable(oid, true) & 8 = 8 AS "takesRows",
      pg_relation_is_updatable(oid, false) & 28 = 28 AS writable
    FROM pg_class AS class
    WHERE relnamespace = 'outbox'::regnamespace AND relkind IN ('r', 'p', 'v', 'S')
    ORDER BY name
  `
)

/** Every function of the schema, and a call of it. */
const functions = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql<{ name: string; call: string }>`
    SELECT
      proname::text AS name,
      format(
        'SELECT outbox.%I(%s)',
        proname,
        (SELECT string_agg(format('NULL::%s', format_type(type, NULL)), ', ' ORDER BY place)
         FROM unnest(proargtypes::oid[]) WITH ORDINALITY AS arguments (type, place))
      ) AS call
    FROM pg_proc
    WHERE pronamespace = 'outbox'::regnamespace
    ORDER BY name
  `
)

const changes = ({ column, kind, name, takesRows, writable }: Relation): ReadonlyArray<string> => {
  if (kind === "S")
    return [`SELECT nextval('${name}')`, `SELECT setval('${name}', 1)`, `ALTER SEQUENCE ${name} RESTART`]
  return [
    ...(takesRows ? [`INSERT INTO ${name} DEFAULT VALUES`] : []),
    ...(writable ? [`UPDATE ${name} SET ${column} = ${column}`, `DELETE FROM ${name}`] : []),
    ...(kind === "v"
      ? [`DROP VIEW ${name}`, `CREATE OR REPLACE VIEW ${name} AS SELECT 1`]
      : [`TRUNCATE ${name}`, `ALTER TABLE ${name} ADD COLUMN extra text`, `DROP TABLE ${name} CASCADE`])
  ]
}

/** What only the schema's owner may do, and what leads to another role. */
const escalations = [
  "CREATE TABLE outbox.mine ()",
  "CREATE FUNCTION outbox.mine() RETURNS integer LANGUAGE sql RETURN 1",
  "CREATE OR REPLACE FUNCTION outbox.uuid_v7() RETURNS uuid LANGUAGE sql VOLATILE RETURN NULL::uuid",
  "ALTER FUNCTION outbox.uuid_v7() SECURITY DEFINER",
  "DROP SCHEMA outbox CASCADE",
  "CREATE TRIGGER mine BEFORE INSERT ON outbox.event FOR EACH ROW EXECUTE FUNCTION pg_catalog.suppress_redundant_updates_trigger()"
]

/** Statements that are not refused for want of a privilege, with what came of them. */
const allowed = (login: Login.Login, statements: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const query = yield* Login.session(login)
    return yield* Effect.filter(statements, (statement) =>
      query(statement).pipe(
        Effect.flip,
        Effect.map((error) => Object(error).code !== denied.code),
        Effect.orElseSucceed(() => true)
      )
    )
  }).pipe(Effect.scoped)

layer(Environment.layer(), { excludeTestServices: true })("A member of outbox_publisher", (it) => {
  it.scoped(
    "A member of outbox_publisher publishes from SQL, by the library and from a file, and its events arrive",
    () =>
      Effect.gen(function* () {
        const login = yield* Login.make("outbox_publisher")
        const query = yield* Login.session(login)
        expect(yield* query(`SELECT outbox.publish('by_role', '{}') IS NOT NULL AS published`)).toEqual([
          { published: true }
        ])
        expect(yield* query(`SELECT outbox.publish_all('{by_role,by_role}', '{"{}","{}"}')`)).toHaveLength(2)
        const event = Event.make({ eventType: "by_role", eventContext: {} })
        yield* Effect.zipRight(EventPublisher.publish(event), EventPublisher.publishAll([event, event])).pipe(
          Effect.provide(EventPublisher.layer({ environment: "test" })),
          Effect.provide(PgClient.layer({ url: Redacted.make(login.url) }))
        )
        const line = `{"event_type": "by_role", "event_context": {}}\n`
        const published = yield* Cli.run(["publish", "-"], { stdin: line, variables: { DATABASE_URL: login.url } })
        expect(published).toMatchObject({ code: 0 })
        yield* Relay.drain
        expect(yield* counts).toEqual({ rows: 7, events: 7 })
      })
  )

  it.scoped(
    "A member of outbox_publisher makes nothing of the outbox's types that a migration would stumble over, and publishes all the same",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const login = yield* Login.make("outbox_publisher")
        const types = yield* sql<{ name: string }>`
        SELECT oid::regtype::text AS name FROM pg_type WHERE typnamespace = 'outbox'::regnamespace
      `
        expect(types.map(({ name }) => name)).toEqual(
          expect.arrayContaining(["outbox.batch", "outbox.batch[]", "outbox.event_type", "outbox.new_event_type"])
        )
        const tables = types.map(({ name }, n) => `CREATE TEMPORARY TABLE mine_${n} (one ${name})`)
        expect(yield* allowed(login, tables)).toEqual([])
        // One that a later migration makes.
        yield* sql`CREATE DOMAIN outbox.later AS text`
        yield* Migrations.postgres
        expect(yield* allowed(login, ["CREATE TEMPORARY TABLE mine (one outbox.later)"])).toEqual([])
        const query = yield* Login.session(login)
        yield* query("SELECT outbox.publish('typed', '{}')")
        yield* query(`SELECT outbox.publish_all('{typed}', '{"{}"}')`)
        yield* query("INSERT INTO outbox.new_event (event_type, event_context) VALUES ('typed', '{}')")
        yield* query("PREPARE typed AS SELECT outbox.publish($1, $2); EXECUTE typed('typed', '{}')")
        expect(yield* sql`SELECT count(*)::integer AS count FROM outbox.event WHERE event_type = 'typed'`).toEqual([
          { count: 4 }
        ])
      })
  )

  it.scoped(
    "A member of outbox_publisher locks no slot by locking outbox.new_event, so space is given back meanwhile",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const query = yield* Login.session(yield* Login.make("outbox_publisher"))
        for (const mode of ["ACCESS SHARE", "ROW SHARE", "ROW EXCLUSIVE", "ACCESS EXCLUSIVE"]) {
          yield* query("BEGIN")
          yield* Effect.ignore(query(`LOCK TABLE outbox.new_event IN ${mode} MODE`))
          expect(
            yield* sql`
            SELECT relation::regclass::text AS locked
            FROM pg_locks
            WHERE database = (SELECT oid FROM pg_database WHERE datname = current_database())
              AND relation::regclass::text ~ '^outbox.event'
              AND pid <> pg_backend_pid()
          `
          ).toEqual([])
          yield* query("ROLLBACK")
        }
      })
  )

  it.scoped(
    "A member of outbox_publisher is told by name what must not be NULL, and nothing of the outbox's tables",
    () =>
      Effect.gen(function* () {
        const query = yield* Login.session(yield* Login.make("outbox_publisher"))
        for (const [statement, column] of [
          ["SELECT outbox.publish(NULL, '{}')", "event_type"],
          ["SELECT outbox.publish('secret', NULL)", "event_context"],
          ["SELECT outbox.publish_all(NULL, '{\"{}\"}')", "event_types"],
          ["SELECT outbox.publish_all('{secret}', NULL)", "event_contexts"],
          ["SELECT outbox.publish_all(NULL, NULL)", "event_types"],
          ["SELECT outbox.publish_all('{secret,NULL}', '{\"{}\",\"{}\"}')", "event_type"],
          ["SELECT outbox.publish_all('{secret}', '{NULL}')", "event_context"],
          ["INSERT INTO outbox.new_event (event_context) VALUES ('{}')", "event_type"],
          ["INSERT INTO outbox.new_event (event_type) VALUES ('secret')", "event_context"]
        ] as const) {
          const error = Object(yield* Effect.flip(query(statement)))
          expect({ statement, code: error.code, column: error.column, table: error.table }).toEqual({
            statement,
            code: "23502",
            column,
            table: undefined
          })
          expect(error.message).toBe(`${column} must not be NULL`)
          expect(String(error.detail)).not.toContain("Failing row")
        }
        expect(yield* query("SELECT outbox.publish_all('{}', '{}')")).toEqual([])
      })
  )

  it.scoped(
    "A member of outbox_publisher writes to outbox.new_event, and reads, changes and deletes nothing else that there is",
    () =>
      Effect.gen(function* () {
        const login = yield* Login.make("outbox_publisher")
        const all = yield* relations
        expect(all.map(({ name }) => name)).toEqual(
          expect.arrayContaining(["outbox.event", "outbox.event_slot_3", "outbox.event_status", "outbox.audit"])
        )
        const statements = all.flatMap((relation) => [
          `SELECT * FROM ${relation.name}`,
          `COPY (SELECT * FROM ${relation.name}) TO STDOUT`,
          ...changes(relation)
        ])
        expect(yield* allowed(login, statements)).toEqual(["INSERT INTO outbox.new_event DEFAULT VALUES"])
      })
  )

  it.scoped(
    "A member of outbox_publisher runs no function but those that publish, owns nothing, and becomes no other role",
    () =>
      Effect.gen(function* () {
        const login = yield* Login.make("outbox_publisher")
        const all = yield* functions
        const publishing = all.filter(({ name }) => /^publish(_all)?$/.test(name)).map(({ call }) => call)
        expect(publishing).toHaveLength(2)
        expect(
          yield* allowed(
            login,
            all.map(({ call }) => call)
          )
        ).toEqual(publishing)
        const others = ROLES.filter((role) => role !== "outbox_publisher")
        expect(
          yield* allowed(login, [
            ...escalations,
            ...others.flatMap((role) => [`SET ROLE ${role}`, `GRANT ${role} TO ${login.role}`]),
            "SET ROLE outbox_publisher; CREATE TABLE outbox.mine ()"
          ])
        ).toEqual([])
      })
  )

  it.scoped("A member of outbox_publisher runs no command but help and version", () =>
    Effect.gen(function* () {
      const run = cli(yield* Login.make("outbox_publisher"))
      expect(yield* run("--version")).toMatchObject(done)
      for (const command of [
        ["status"],
        ["failures", "list"],
        ["pause", "--reason", "none"],
        ["resume"],
        ["restamp"]
      ]) {
        expect(yield* run(...command)).toMatchObject(refusedByPostgres)
      }
    })
  )
})

layer(Environment.layer({ OUTBOX_BATCH_EVENTS: "2" }), { excludeTestServices: true })(
  "A member of outbox_relay",
  (it) => {
    it.scoped("A member of outbox_relay delivers, isolates, repairs, tidies up, opens and closes incidents", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const login = yield* Login.make("outbox_relay")
        const relay = yield* Cli.start(["relay"], {
          variables: {
            DATABASE_URL: login.url,
            OUTBOX_EVENT_RETENTION: "1 second",
            OUTBOX_FAILURE_RETENTION: "1 second",
            OUTBOX_LINGER: "20 millis"
          }
        })
        yield* sql`SELECT outbox.publish('good', '{}') FROM generate_series(1, 5)`
        yield* sql`SELECT outbox.publish('bad', ${REFUSED}::jsonb)`
        yield* until(counts, ({ rows }) => rows === 5)
        const failures = sql`SELECT state FROM outbox.batch_failure`
        expect(yield* until(failures, (rows) => rows.length === 1)).toEqual([{ state: "open" }])
        yield* sql`
          UPDATE outbox.batch_failure SET state = 'discarded', note = 'a test', closed_at = '2000-01-01'
        `
        yield* sql`
          INSERT INTO outbox.incident (error_class, error_message, began_at, closed_at)
          VALUES ('unknown', 'a test', '2000-01-01', '2000-01-01'), ('unknown', 'a test', '2000-01-01', NULL)
        `
        yield* sql`
          INSERT INTO outbox.audit (actor, action, before, after, occurred_at)
          VALUES ('ada', 'pause', '{}', '{}', '2000-01-01')
        `
        yield* relay.said("Emptied slot 0, whose events were all delivered")
        expect(yield* until(failures, (rows) => rows.length === 0)).toEqual([])
        const left = sql<{ left: number }>`
          SELECT (
            (SELECT count(*) FROM outbox.incident WHERE closed_at < '2001-01-01')
            + (SELECT count(*) FROM outbox.incident WHERE closed_at IS NULL)
            + (SELECT count(*) FROM outbox.audit)
          )::integer AS left
        `
        yield* until(left, ([row]) => row?.left === 0)
        yield* relay.signal("SIGTERM")
        const { code, stderr } = yield* relay.ended
        expect({ code, denied: stderr.includes("permission denied") }).toEqual({ code: 0, denied: false })
      })
    )

    it.scoped(
      "A member of outbox_relay changes no event, writes none into a batch that is sealed, and does nothing that operators do",
      () =>
        Effect.gen(function* () {
          const login = yield* Login.make("outbox_relay")
          expect(
            yield* allowed(login, [
              "UPDATE outbox.event SET environment = 'other'",
              "DELETE FROM outbox.event",
              "TRUNCATE outbox.event",
              "INSERT INTO outbox.event (tx_id, event_type, environment, event_context, context_bytes) VALUES ('1', 'forged', 'x', '{}', 2)",
              "INSERT INTO outbox.event (id, event_type, environment, event_context, context_bytes) VALUES (1, 'forged', 'x', '{}', 2)",
              "UPDATE outbox.batch_failure SET state = 'discarded', note = 'x', closed_at = now()",
              "UPDATE outbox.batch_failure_event SET event_context = '{}'",
              "INSERT INTO outbox.audit (actor, action, before, after) VALUES ('x', 'pause', '{}', '{}')",
              "UPDATE outbox.audit SET actor = 'x'",
              "INSERT INTO outbox.relay_pause (paused_by, reason) VALUES ('x', 'x')",
              "DELETE FROM outbox.relay_pause",
              "DELETE FROM outbox.migration",
              "DELETE FROM outbox.batch",
              "DELETE FROM outbox.batch_failure",
              "DELETE FROM outbox.batch_failure_event",
              "DELETE FROM outbox.incident",
              "DELETE FROM outbox.audit",
              "SELECT outbox.close_failures('{1}', 'discarded', 'x', 'x')",
              "SELECT outbox.replay_events('{1}', NULL, 'x')",
              "SELECT outbox.publish('forged', '{}')",
              ...escalations,
              ...ROLES.filter((role) => role !== "outbox_relay").map((role) => `SET ROLE ${role}`)
            ])
          ).toEqual([])
        })
    )

    it.scoped(
      "A member of outbox_relay deletes nothing that was closed or written down within a day, nor a batch within an hour",
      () =>
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const query = yield* Login.session(yield* Login.make("outbox_relay"))
          const lately = "now() - interval '23 hours'"
          yield* sql.unsafe(`
          INSERT INTO outbox.batch_failure (
            batch_id, origin_batch_id, event_count, parked, error_class, error_message, first_seen_at, last_seen_at,
            attempts, state, closed_at
          )
          VALUES (1000001, 1, 1, false, 'data', '', now(), now(), 1, 'replayed', ${lately})
        `)
          yield* sql.unsafe(`
          INSERT INTO outbox.audit (occurred_at, actor, action, before, after)
          VALUES (${lately}, 'ada', 'resume', '{}', '{}')
        `)
          const kept = sql`
          SELECT
            (SELECT count(*)::integer FROM outbox.batch_failure) AS failures,
            (SELECT count(*)::integer FROM outbox.audit) AS audited,
            (SELECT count(*)::integer FROM outbox.batch) AS batches
        `
          const before = yield* kept
          expect(yield* query("SELECT outbox.delete_closed('0')::integer AS deleted")).toEqual([{ deleted: 0 }])
          yield* query("UPDATE outbox.slot SET emptied_at = 'infinity'")
          yield* query("SELECT outbox.forget_batches()")
          expect(yield* kept).toEqual(before)
          yield* sql`UPDATE outbox.batch_failure SET closed_at = closed_at - interval '2 hours'`
          yield* sql`UPDATE outbox.audit SET occurred_at = occurred_at - interval '2 hours'`
          yield* query("SELECT outbox.delete_closed('0')")
          expect(yield* kept).toMatchObject([{ failures: 0, audited: 0 }])
        })
    )

    it.scoped("A member of outbox_relay serves the operator API, whose changes need outbox_operator: it says so", () =>
      Effect.gen(function* () {
        const alone = yield* Login.make("outbox_relay")
        const both = yield* Login.make("outbox_relay", "outbox_operator")
        const serve = ({ url }: Login.Login) =>
          Effect.flatMap(
            Cli.start(["relay"], { variables: { DATABASE_URL: url, OUTBOX_HTTP_PORT: "0" } }),
            (relay) => relay.url
          )
        const url = yield* serve(alone)
        yield* until(ask(url, "GET /api/status"), ({ status }) => status === 200)
        expect(yield* ask(url, "POST /api/relay/pause", { body: `{"reason": "a test"}` })).toMatchObject({
          status: 403,
          json: {
            type: "urn:clickhouse-outbox:not-permitted",
            detail: expect.stringContaining("GRANT outbox_operator")
          }
        })
        const other = yield* serve(both)
        yield* until(ask(other, "GET /api/status"), ({ status }) => status === 200)
        expect((yield* ask(other, "POST /api/relay/pause", { body: `{"reason": "a test"}` })).status).toBe(200)
        expect((yield* ask(other, "POST /api/relay/resume")).status).toBe(200)
      })
    )
  }
)

layer(Environment.layer(), { excludeTestServices: true })("A member of outbox_operator", (it) => {
  it.scoped("A member of outbox_operator runs every command but those of the owner and the relay", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const run = cli(yield* Login.make("outbox_operator"))
      const bad = sql`SELECT outbox.publish('bad', ${REFUSED}::jsonb) FROM generate_series(1, 4)`
      yield* bad
      yield* Relay.drain
      const [event] = yield* sql<{ id: string }>`SELECT event_id::text AS id FROM outbox.event LIMIT 1`
      for (const command of [
        ["status"],
        ["status", "--json"],
        ["failures", "list"],
        ["failures", "show", "1"],
        ["failures", "edit", "1", "--context", "{}"],
        ["failures", "replay", "1"],
        ["failures", "edit", "2", "--context", "{}", "--replay"],
        ["failures", "discard", "3", "--note", "a test"],
        ["failures", "resolve", "4", "--note", "a test"],
        ["failures", "replay", "--all", "--yes"],
        ["failures", "reopen", "3"],
        ["where", event?.id ?? ""],
        ["batches", "list"],
        ["batches", "show", "1"],
        ["incidents"],
        ["pause", "--reason", "a test"],
        ["resume"]
      ]) {
        expect({ command, ...(yield* run(...command)) }).toMatchObject({ command, ...done })
      }
      expect(
        yield* Cli.run(["publish", "-"], {
          stdin: `{"event_type": "from_a_file", "event_context": {}}\n`,
          variables: { DATABASE_URL: (yield* Login.make("outbox_publisher")).url }
        })
      ).toMatchObject({ code: 0 })
      expect(yield* run("restamp")).toMatchObject(refusedByPostgres)
      yield* Relay.drain
      yield* Effect.flatMap(ClickHouse, ({ command }) => command("TRUNCATE TABLE event_log"))
      expect(yield* run("verify")).toMatchObject({ code: 2, stderr: "" })
      expect(yield* run("verify", "--repair")).toMatchObject(done)
      const audited = yield* sql<{ action: string }>`SELECT DISTINCT action FROM outbox.audit ORDER BY action`
      expect(audited.map(({ action }) => action)).toEqual([
        "correct",
        "discard",
        "pause",
        "reopen",
        "replay",
        "requeue",
        "resolve",
        "resume"
      ])
      yield* Relay.drain
      expect(yield* counts).toEqual({ rows: 3, events: 3 })
    })
  )

  it.scoped(
    "A member of outbox_operator changes and writes nothing in a table: no event, batch, failure, pause or audit",
    () =>
      Effect.gen(function* () {
        const login = yield* Login.make("outbox_operator")
        expect(
          yield* allowed(login, [
            "UPDATE outbox.event SET environment = 'other'",
            "DELETE FROM outbox.event",
            "TRUNCATE outbox.event_slot_0",
            "INSERT INTO outbox.event (tx_id, event_type, environment, event_context, context_bytes) VALUES ('1', 'forged', 'x', '{}', 2)",
            "UPDATE outbox.batch SET state = 'delivered', delivered_at = now()",
            "DELETE FROM outbox.batch",
            "UPDATE outbox.sealer SET sealed_at = now()",
            "UPDATE outbox.sealer SET doubt_before = '0'",
            "INSERT INTO outbox.event (event_type, environment, event_context, context_bytes) VALUES ('forged', 'x', '{}', 2)",
            "UPDATE outbox.batch_failure SET state = 'discarded', note = 'x', closed_at = '2000-01-01'",
            "UPDATE outbox.batch_failure SET note = 'x'",
            "UPDATE outbox.batch_failure SET last_seen_at = now()",
            "SELECT FROM outbox.batch_failure FOR UPDATE",
            "UPDATE outbox.batch_failure_event SET event_context = '{}'",
            "UPDATE outbox.batch_failure_event SET replayed_at = now()",
            "UPDATE outbox.batch_failure SET error_message = 'forged'",
            "UPDATE outbox.batch_failure SET event_count = 1",
            "UPDATE outbox.batch_failure_event SET event_id = gen_random_uuid()",
            "UPDATE outbox.batch_failure_event SET failure_id = 1",
            "UPDATE outbox.batch_failure_event SET environment = 'other'",
            "UPDATE outbox.batch_failure_event SET published_at = now()",
            "INSERT INTO outbox.audit (actor, action, before, after, occurred_at) VALUES ('x', 'pause', '{}', '{}', now())",
            "INSERT INTO outbox.audit (actor, action, before, after, id) OVERRIDING SYSTEM VALUE VALUES ('x', 'pause', '{}', '{}', 1)",
            "INSERT INTO outbox.audit (actor, action, before, after) VALUES ('x', 'pause', '{}', '{}')",
            "INSERT INTO outbox.relay_pause (paused_by, reason) VALUES ('x', 'x')",
            "DELETE FROM outbox.relay_pause",
            "SELECT outbox.delete_closed('1 second')",
            "SELECT outbox.forget_batches()",
            "DELETE FROM outbox.batch_failure",
            "DELETE FROM outbox.batch_failure_event",
            "UPDATE outbox.audit SET actor = 'somebody else'",
            "DELETE FROM outbox.audit",
            "TRUNCATE outbox.audit",
            "SELECT setval('outbox.event_slot', 1)",
            ...escalations,
            ...ROLES.filter((role) => role !== "outbox_operator").map((role) => `SET ROLE ${role}`)
          ])
        ).toEqual([])
      })
  )
})

layer(Environment.layer(), { excludeTestServices: true })("What an operator does in SQL", (it) => {
  it.scoped(
    "What an operator does in SQL is dated now and audited, and closes nothing that is not open nor publishes anything twice",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const query = yield* Login.session(yield* Login.make("outbox_operator"))
        yield* sql`SELECT outbox.publish('bad', ${REFUSED}::jsonb) FROM generate_series(1, 2)`
        yield* Relay.drain
        const [began] = yield* sql<{ at: Date }>`SELECT clock_timestamp() AS at`
        const failures = (yield* sql<{ id: string }>`SELECT id FROM outbox.batch_failure ORDER BY id`).map(
          ({ id }) => id
        )
        const [first = "", second = ""] = failures
        yield* query(`SELECT outbox.close_failures('{${first}}', 'discarded', 'because', 'ada')`)
        expect(yield* query(`SELECT outbox.close_failures('{${first}}', 'resolved', 'because', 'ada')`)).toEqual([])
        expect(yield* query(`SELECT outbox.close_failures('{${second}}', 'replayed', 'because', 'ada')`)).toEqual([])
        expect(yield* query(`SELECT (outbox.replay_events('{${first}}', NULL, 'ada')).events`)).toEqual([
          { events: "0" }
        ])
        expect(yield* query(`SELECT (outbox.replay_events('{${second}}', NULL, 'ada')).events`)).toEqual([
          { events: "1" }
        ])
        expect(yield* query(`SELECT (outbox.replay_events('{${second}}', NULL, 'ada')).events`)).toEqual([
          { events: "0" }
        ])
        expect(yield* query(`SELECT outbox.reopen_failures('{${second}}', 'ada')`)).toEqual([])
        const closed = yield* sql<{ state: string; closed_at: Date }>`
        SELECT state, closed_at FROM outbox.batch_failure ORDER BY id
      `
        expect(closed.map(({ state }) => state)).toEqual(["discarded", "replayed"])
        for (const { closed_at } of closed) expect(closed_at.getTime()).toBeGreaterThanOrEqual(began?.at.getTime() ?? 0)
        expect(yield* sql`SELECT actor, action, failure_id::text FROM outbox.audit ORDER BY id`).toEqual([
          { actor: "ada", action: "discard", failure_id: first },
          { actor: "ada", action: "replay", failure_id: second }
        ])
        for (const call of [`outbox.reopen_failures('{${first}}', NULL)`, "outbox.pause_relays('x', NULL)"]) {
          yield* Effect.flip(query(`SELECT ${call}`))
        }
      })
  )
})

layer(Environment.layer(), { excludeTestServices: true })("The sealer's doubt", (it) => {
  it.scoped("The sealer's doubt is put forward to the present, and never back", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const doubt = sql<{ doubt: string }>`SELECT doubt_before::text AS doubt FROM outbox.sealer`
      const [before] = yield* sql<{ xid: string }>`SELECT pg_current_xact_id()::text AS xid`
      yield* sql`SELECT outbox.doubt_until_now()`
      const [raised] = yield* doubt
      expect(BigInt(raised?.doubt ?? 0)).toBeGreaterThan(BigInt(before?.xid ?? 0))
      yield* sql`UPDATE outbox.sealer SET doubt_before = '1000000000'`
      yield* sql`SELECT outbox.doubt_until_now()`
      expect(yield* doubt).toEqual([{ doubt: "1000000000" }])
    })
  )
})

layer(Environment.layer(), { excludeTestServices: true })("A member of outbox_reader", (it) => {
  it.scoped("A member of outbox_reader sees everything and changes nothing", () =>
    Effect.gen(function* () {
      const login = yield* Login.make("outbox_reader")
      const all = yield* relations
      const looks = all.map(({ name }) => `SELECT * FROM ${name}`)
      expect(yield* allowed(login, looks)).toEqual(looks)
      expect(yield* allowed(login, [...all.flatMap(changes), ...escalations])).toEqual([])
      expect(yield* allowed(login, ["SELECT outbox.publish('forged', '{}')"])).toEqual([])
      const run = cli(login)
      for (const command of [["status"], ["failures", "list"], ["batches", "list"], ["incidents"]]) {
        expect(yield* run(...command)).toMatchObject(done)
      }
      expect(yield* run("pause", "--reason", "none")).toMatchObject(refusedByPostgres)
    })
  )
})

layer(Environment.layer(), { excludeTestServices: true })("The schema outbox", (it) => {
  it.scoped("The schema outbox gives nothing to who is member of none, not even where it may be entered", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const login = yield* Login.make()
      const all = yield* relations
      const calls = (yield* functions).map(({ call }) => call)
      yield* sql.unsafe(`GRANT USAGE ON SCHEMA outbox TO ${login.role}`)
      expect(yield* allowed(login, [...all.map(({ name }) => `SELECT * FROM ${name}`), ...calls])).toEqual([])
    })
  )

  it.scoped("The schema outbox has no function that runs as its owner without a search_path of its own", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const definers = yield* sql<{ name: string; pinned: string }>`
        SELECT
          proname::text AS name,
          (SELECT setting FROM unnest(proconfig) AS setting WHERE setting LIKE 'search\\_path=%') AS pinned
        FROM pg_proc
        WHERE pronamespace = 'outbox'::regnamespace AND prosecdef
        ORDER BY name
      `
      expect(definers).toEqual(
        [
          "close_failures",
          "correct_event",
          "delete_closed",
          "forget_batches",
          "lock_failures",
          "pause_relays",
          "publish",
          "publish_all",
          "reopen_failures",
          "replay_events",
          "requeue",
          "resume_relays"
        ].map((name) => ({ name, pinned: "search_path=pg_catalog, pg_temp" }))
      )
    })
  )
})
