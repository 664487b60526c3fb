/** Publishing in SQL, as from any language: no library, one connection of `pg`. */
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Pg from "pg"
import * as Environment from "../support/environment.ts"

type Query = (
  text: string,
  values?: ReadonlyArray<unknown>
) => Effect.Effect<ReadonlyArray<Record<string, unknown>>, unknown>

/** Runs statements in a session of its own. */
const session = Effect.gen(function* () {
  const url = (yield* Environment.Environment).DATABASE_URL
  const client = yield* Effect.acquireRelease(
    Effect.promise(async () => {
      const client = new Pg.Client(url)
      await client.connect()
      return client
    }),
    (client) => Effect.promise(() => client.end())
  )
  const query: Query = (text, values = []) =>
    Effect.tryPromise({
      try: async () => {
        const result: Pg.QueryResult<Record<string, unknown>> = await client.query(text, [...values])
        return result.rows
      },
      catch: (error) => error
    })
  return query
})

const events = "SELECT event_type FROM outbox.event WHERE event_type = ANY ($1) ORDER BY id"

const TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

const deep = (levels: number) => `${'{"a":'.repeat(levels)}1${"}".repeat(levels)}`

layer(Environment.layer(), { excludeTestServices: true })((it) => {
  it.scoped("outbox.publish in a transaction is committed with it, or was never there", () =>
    Effect.gen(function* () {
      const query = yield* session
      yield* query("BEGIN")
      yield* query(`SELECT outbox.publish('committed', '{}')`)
      yield* query("COMMIT")
      yield* query("BEGIN")
      yield* query(`SELECT outbox.publish('rolled_back', '{}')`)
      yield* query("ROLLBACK")
      expect(yield* query(events, [["committed", "rolled_back"]])).toEqual([{ event_type: "committed" }])
    })
  )

  it.scoped(
    "outbox.publish in a transaction is undone with its savepoint, and carries the whole transaction's id also inside of one",
    () =>
      Effect.gen(function* () {
        const query = yield* session
        yield* query("BEGIN")
        yield* query(`SELECT outbox.publish('before', '{}')`)
        yield* query("SAVEPOINT one")
        yield* query(`SELECT outbox.publish('undone', '{}')`)
        yield* query("ROLLBACK TO one")
        yield* query("SAVEPOINT two")
        yield* query(`SELECT outbox.publish('inside', '{}')`)
        yield* query("RELEASE two")
        const [transaction] = yield* query("SELECT pg_current_xact_id()::text AS tx_id")
        yield* query("COMMIT")
        expect(
          yield* query("SELECT event_type, tx_id::text FROM outbox.event WHERE event_type = ANY ($1) ORDER BY id", [
            ["before", "undone", "inside"]
          ])
        ).toEqual([
          { event_type: "before", ...transaction },
          { event_type: "inside", ...transaction }
        ])
      })
  )

  {
    /** Publishes, and returns the row that was written. */
    const publish = (query: Query, call: string) =>
      Effect.gen(function* () {
        const [published] = yield* query(`SELECT outbox.${call} AS id`)
        const [row] = yield* query("SELECT * FROM outbox.event WHERE event_id = $1", [published?.id])
        return row
      })

    it.scoped(
      "outbox.publish fills in what is left out, or NULL with a time-ordered uuid, now, version 1 and no trace",
      () =>
        Effect.gen(function* () {
          const query = yield* session
          for (const call of [
            `publish('user_created', '{"a": 1}')`,
            `publish('user_created', '{"a": 1}', NULL, NULL, NULL, NULL, NULL)`,
            `publish_all('{user_created}', ARRAY['{"a": 1}'::jsonb])`,
            `publish_all('{user_created}', ARRAY['{"a": 1}'::jsonb], '{NULL}', '{NULL}', '{NULL}', '{NULL}', NULL)`
          ]) {
            const row = yield* publish(query, call)
            expect(row).toMatchObject({ event_context: { a: 1 }, metadata_version: "1", traceparent: null })
            expect(row?.event_id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
            const millis = Number.parseInt(String(row?.event_id).replaceAll("-", "").slice(0, 12), 16)
            for (const time of [millis, Number(row?.event_date_time), Number(row?.published_at)]) {
              expect(Math.abs(time - Date.now())).toBeLessThan(60_000)
            }
          }
        })
    )

    it.scoped(
      "outbox.publish fills in what is left out, or NULL with what the context weighs on its way to ClickHouse, as Postgres writes it",
      () =>
        Effect.gen(function* () {
          const query = yield* session
          // Its numbers grow, its blanks are gone, and é takes two bytes.
          const context = `'{"a": 1e30,   "b": "é"}'::jsonb`
          yield* query(`SELECT outbox.publish('weighed', ${context})`)
          yield* query(`SELECT outbox.publish_all('{weighed,weighed}', ARRAY[${context}, '{}'])`)
          yield* query(`INSERT INTO outbox.new_event (event_type, event_context) VALUES ('weighed', ${context})`)
          const weights = yield* query(
            "SELECT context_bytes FROM outbox.event WHERE event_type = 'weighed' ORDER BY id"
          )
          expect(weights.map(({ context_bytes }) => context_bytes)).toEqual([49, 49, 2, 49])
        })
    )

    it.scoped(
      "outbox.publish fills in what is left out, or NULL with the time of the call, not of its transaction's begin",
      () =>
        Effect.gen(function* () {
          const query = yield* session
          yield* query("BEGIN")
          const first = yield* publish(query, "publish('timed', '{}')")
          yield* query("SELECT pg_sleep(0.01)")
          const second = yield* publish(query, "publish('timed', '{}')")
          yield* query("COMMIT")
          expect(Number(second?.event_date_time)).toBeGreaterThan(Number(first?.event_date_time))
          expect(String(second?.event_id) > String(first?.event_id)).toBe(true)
        })
    )

    it.scoped(
      "outbox.publish fills in what is left out, or NULL with the environment that the session or the database is set to, or production",
      () =>
        Effect.gen(function* () {
          const query = yield* session
          const environment = (query: Query) =>
            Effect.map(
              Effect.all([publish(query, "publish('e', '{}')"), publish(query, "publish_all('{e}', '{\"{}\"}')")]),
              (rows) => rows.map((row) => row?.environment)
            )
          expect(yield* environment(query)).toEqual(["production", "production"])
          yield* query("SET outbox.environment = 'staging'")
          expect(yield* environment(query)).toEqual(["staging", "staging"])
          yield* query("RESET outbox.environment")
          expect(yield* environment(query)).toEqual(["production", "production"])
          const [database] = yield* query("SELECT quote_ident(current_database()) AS name")
          yield* query(`ALTER DATABASE ${database?.name} SET outbox.environment = 'test'`)
          expect(yield* environment(yield* session)).toEqual(["test", "test"])
          yield* query(`ALTER DATABASE ${database?.name} RESET outbox.environment`)
        })
    )

    it.scoped(
      "outbox.publish fills in what is left out, or NULL and nothing else, in a call that names its arguments",
      () =>
        Effect.gen(function* () {
          const row = yield* publish(
            yield* session,
            `publish(
            traceparent => '${TRACEPARENT}',
            event_id => '00000000-0000-4000-8000-000000000001',
            event_context => '{}',
            event_type => 'named',
            metadata_version => 3,
            environment => 'staging',
            event_date_time => '2026-01-31T12:00:00.123Z'
          )`
          )
          expect(row).toMatchObject({
            event_id: "00000000-0000-4000-8000-000000000001",
            event_type: "named",
            event_date_time: new Date("2026-01-31T12:00:00.123Z"),
            environment: "staging",
            event_context: {},
            metadata_version: "3",
            traceparent: TRACEPARENT
          })
        })
    )
  }

  {
    const anEvent = {
      event_type: "refused",
      event_context: "{}",
      event_date_time: "2026-01-31",
      environment: "test",
      metadata_version: "1",
      event_id: "00000000-0000-4000-8000-000000000002",
      traceparent: TRACEPARENT
    }

    const refuses = (what: string, changed: Partial<Record<keyof typeof anEvent, string | null>>, refusal: object) =>
      it.scoped(what, () =>
        Effect.gen(function* () {
          const query = yield* session
          const event = { ...anEvent, ...changed }
          const { traceparent, ...columns } = event
          expect(
            yield* Effect.flip(query("SELECT outbox.publish($1, $2, $3, $4, $5, $6, $7)", Object.values(event)))
          ).toMatchObject(refusal)
          const arrays = Object.values(columns).map((column) => [column])
          expect(
            yield* Effect.flip(query("SELECT outbox.publish_all($1, $2, $3, $4, $5, $6, $7)", [...arrays, traceparent]))
          ).toMatchObject(refusal)
          expect(yield* query(events, [[event.event_type]])).toEqual([])
        })
      )

    const violates = (constraint: string) => ({ code: "23514", constraint })
    const type = violates("event_type_must_have_1_to_255_characters")
    refuses("an empty event type", { event_type: "" }, type)
    refuses("an event type of 256 characters", { event_type: "ä".repeat(256) }, type)
    refuses("no event type", { event_type: null }, { code: "23502", column: "event_type" })
    refuses("an empty environment", { environment: "" }, violates("environment_must_have_1_to_255_characters"))
    const object = violates("event_context_must_be_a_json_object")
    refuses("a context that is an array", { event_context: "[]" }, object)
    refuses("a context that is null in JSON", { event_context: "null" }, object)
    refuses("no context", { event_context: null }, { code: "23502", column: "event_context" })
    const large = `{"a": "${"x".repeat(1_048_576 - '{"a": ""}'.length + 1)}"}`
    refuses("a context of more than 1 MiB", { event_context: large }, violates("event_context_must_not_exceed_1_mib"))
    const levels = violates("event_context_must_not_exceed_1000_levels")
    refuses("a context of more than 1000 levels", { event_context: deep(1001) }, levels)
    it.scoped("outbox.publish refuses a context of more than 1000 levels also where a table holds it compressed", () =>
      Effect.gen(function* () {
        const query = yield* session
        yield* query("CREATE TEMPORARY TABLE kept (context jsonb)")
        yield* query("INSERT INTO kept VALUES ($1)", [deep(1001)])
        // Less than 1,001 levels could take in any other way.
        expect(yield* query("SELECT pg_column_size(context) < 8000 AS compressed FROM kept")).toEqual([
          { compressed: true }
        ])
        for (const call of ["publish('refused', context)", "publish_all('{refused}', ARRAY[context])"]) {
          expect(yield* Effect.flip(query(`SELECT outbox.${call} FROM kept`))).toMatchObject(levels)
        }
      })
    )
    refuses("a negative version", { metadata_version: "-1" }, violates("metadata_version_must_not_be_negative"))
    const years = violates("event_date_time_must_be_from_1900_to_2299")
    refuses("a time before 1900", { event_date_time: "1899-12-31T23:59:59.999999Z" }, years)
    refuses("a time after 2299", { event_date_time: "2300-01-01T00:00:00Z" }, years)
    refuses("infinity", { event_date_time: "infinity" }, years)
    const trace = violates("traceparent_must_be_w3c_trace_context")
    refuses("a traceparent that is too short", { traceparent: TRACEPARENT.slice(1) }, trace)
    refuses("a traceparent in capitals", { traceparent: TRACEPARENT.toUpperCase() }, trace)
    refuses("a traceparent of other parts", { traceparent: TRACEPARENT.replace("4bf9", "4b-9") }, trace)
    refuses("a traceparent with its lines in other places", { traceparent: TRACEPARENT.replace("0-4", "-04") }, trace)
  }

  it.scoped("outbox.publish takes many in one statement, and returns their ids in their order", () =>
    Effect.gen(function* () {
      const query = yield* session
      const ids = yield* query(`
          SELECT outbox.publish_all(
            event_types => array_agg('many_' || n ORDER BY n),
            event_contexts => array_agg(jsonb_build_object('n', n) ORDER BY n),
            traceparent => '${TRACEPARENT}'
          ) AS event_id
          FROM generate_series(1, 1000) AS n
        `)
      const rows = yield* query(
        "SELECT event_id, event_type, traceparent FROM outbox.event WHERE event_type ^@ 'many_' ORDER BY id"
      )
      expect(rows).toEqual(
        ids.map((id, index) => ({ ...id, event_type: `many_${index + 1}`, traceparent: TRACEPARENT }))
      )
    })
  )

  it.scoped("outbox.publish takes many or none, if one is refused or lacks its context", () =>
    Effect.gen(function* () {
      const query = yield* session
      const all = "SELECT outbox.publish_all('{none,none}', $1::jsonb[])"
      expect(yield* Effect.flip(query(all, [["{}", "[]"]]))).toMatchObject({ code: "23514" })
      expect(yield* Effect.flip(query(all, [["{}"]]))).toMatchObject({ code: "23502", column: "event_context" })
      expect(yield* query(events, [["none"]])).toEqual([])
    })
  )

  it.scoped("outbox.publish takes many and says which one was refused", () =>
    Effect.gen(function* () {
      const query = yield* session
      const all = "SELECT outbox.publish_all($1, $2, environments => $3, event_ids => $4)"
      const eventId = "00000000-0000-4000-8000-000000000003"
      const contexts = ["{}", "{}", "{}"]
      const environments = ["test", null, "x".repeat(256)]
      const error = yield* Effect.flip(
        query(all, [["none", "none", "this"], contexts, environments, [null, null, eventId]])
      )
      expect(error).toMatchObject({
        code: "23514",
        schema: "outbox",
        dataType: "environment",
        constraint: "environment_must_have_1_to_255_characters",
        message: expect.stringContaining("value for domain outbox.environment violates check constraint"),
        detail: `It is event 3 of those published together: ${eventId}, this`
      })
    })
  )

  it.scoped("outbox.publish runs nothing of the caller's with its owner's privileges", () =>
    Effect.gen(function* () {
      const query = yield* session
      const traps = `trap_${process.pid}`
      yield* Effect.acquireRelease(query(`CREATE SCHEMA ${traps}`), () =>
        Effect.orDie(query(`DROP SCHEMA ${traps} CASCADE`))
      )
      const trap = (name: string, parameters: string, type: string) =>
        query(`
          CREATE FUNCTION ${traps}.${name}(${parameters}) RETURNS ${type} LANGUAGE plpgsql
          AS $$ BEGIN RAISE 'caught'; END $$
        `)
      yield* trap("clock_timestamp", "", "timestamptz")
      yield* trap("current_setting", "text, boolean", "text")
      yield* trap("char_length", "text", "integer")
      yield* trap("octet_length", "text", "integer")
      yield* trap("jsonb_typeof", "jsonb", "text")
      yield* trap("format", "text, bigint, text", "text")
      yield* trap("equal", "text, text", "boolean")
      yield* query(`CREATE OPERATOR ${traps}.= (LEFTARG = text, RIGHTARG = text, FUNCTION = ${traps}.equal)`)
      yield* query(`CREATE OPERATOR ${traps}.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = ${traps}.equal)`)
      yield* query(`SET search_path = ${traps}, pg_catalog`)
      expect(yield* Effect.flip(query("SELECT clock_timestamp()"))).toMatchObject({ message: "caught" })
      expect(yield* Effect.flip(query("SELECT 'a'::text = 'b'::text"))).toMatchObject({ message: "caught" })
      yield* query("SELECT outbox.publish('untrapped', '{}')")
      yield* query(`SELECT outbox.publish_all('{untrapped}', '{"{}"}')`)
      const refused = { code: "23514" }
      expect(yield* Effect.flip(query("SELECT outbox.publish('untrapped', '[]')"))).toMatchObject(refused)
      expect(yield* Effect.flip(query(`SELECT outbox.publish_all('{untrapped}', '{"[]"}')`))).toMatchObject(refused)
      yield* query("RESET search_path")
    })
  )

  it.scoped("outbox.publish writes no row for a role that cannot know which slot is in use", () =>
    Effect.gen(function* () {
      const query = yield* session
      const role = `copier_${Date.now()}_${process.pid}`
      yield* Effect.acquireRelease(
        query(`
          CREATE ROLE ${role};
          GRANT USAGE ON SCHEMA outbox TO ${role};
          GRANT INSERT ON outbox.event TO ${role};
          GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA outbox TO ${role};
          GRANT USAGE ON SEQUENCE outbox.event_id_seq TO ${role}
        `),
        () => Effect.orDie(query(`DROP OWNED BY ${role}; DROP ROLE ${role}`))
      )
      const copier = yield* session
      yield* copier(`SET ROLE ${role}`)
      const insert =
        "INSERT INTO outbox.event (event_type, environment, event_context, context_bytes) VALUES ('copied', 'test', '{}', 2)"
      expect(yield* Effect.flip(copier(insert))).toMatchObject({ code: "42501" })
      yield* query(`GRANT SELECT ON SEQUENCE outbox.event_slot TO ${role}`)
      yield* copier(insert)
      expect(yield* query(events, [["copied"]])).toHaveLength(1)
    })
  )

  it.scoped(
    "outbox.publish works where session_replication_role turns triggers off, and outbox.new_event, which needs one, refuses",
    () =>
      Effect.gen(function* () {
        const query = yield* session
        yield* query("SET session_replication_role = replica")
        yield* query("SELECT outbox.publish('without_triggers', '{}')")
        yield* query(`SELECT outbox.publish_all('{without_triggers}', '{"{}"}')`)
        const refused = { constraint: "session_replication_role_must_not_be_replica" }
        for (const insert of [
          "INSERT INTO outbox.new_event (event_type, event_context) VALUES ('without_triggers', '{}')",
          "INSERT INTO outbox.new_event SELECT 'without_triggers', '{}'",
          "INSERT INTO outbox.new_event DEFAULT VALUES",
          "COPY outbox.new_event (event_type, event_context) FROM PROGRAM 'echo without_triggers,{}' (FORMAT csv)"
        ]) {
          expect(yield* Effect.flip(query(insert)), insert).toMatchObject(refused)
        }
        expect(yield* query(events, [["without_triggers"]])).toHaveLength(2)
      })
  )

  it.scoped("outbox.publish needs the role outbox_publisher and no other privilege, and gives none", () =>
    Effect.gen(function* () {
      const query = yield* session
      const role = `publisher_${Date.now()}_${process.pid}`
      yield* Effect.acquireRelease(query(`CREATE ROLE ${role} IN ROLE outbox_publisher`), () =>
        Effect.orDie(query(`DROP OWNED BY ${role}; DROP ROLE ${role}`))
      )
      const publisher = yield* session
      yield* publisher(`SET ROLE ${role}`)
      yield* publisher("SELECT outbox.publish('by_role', '{}')")
      yield* publisher(`SELECT outbox.publish_all('{by_role}', '{"{}"}')`)
      yield* publisher("INSERT INTO outbox.new_event (event_type, event_context) VALUES ('by_role', '{}')")
      expect(yield* query(events, [["by_role"]])).toHaveLength(3)
      const denied = { code: "42501" }
      expect(yield* Effect.flip(publisher("SELECT FROM outbox.new_event"))).toMatchObject(denied)
      expect(yield* Effect.flip(publisher(events, [[]]))).toMatchObject(denied)
      expect(yield* Effect.flip(publisher("DELETE FROM outbox.event"))).toMatchObject(denied)
      expect(yield* Effect.flip(publisher("SELECT * FROM outbox.event_status"))).toMatchObject(denied)
      expect(yield* Effect.flip(publisher("SELECT * FROM outbox.batch"))).toMatchObject(denied)
    })
  )
})
