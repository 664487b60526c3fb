/** Publishing in SQL, as from any language: no library, one connection of `pg`. */
import * as SqlClient from "@effect/sql/SqlClient"
import { describe, expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Pg from "pg"
import * as Environment from "./support/environment.ts"

/** Runs statements in a session, optionally as somebody else. */
const session = (user?: string) =>
  Effect.gen(function* () {
    const url = new URL(String((yield* Environment.Environment).DATABASE_URL))
    if (user !== undefined) url.username = user
    const client = yield* Effect.acquireRelease(
      Effect.promise(async () => {
        const client = new Pg.Client(url.href)
        await client.connect()
        return client
      }),
      (client) => Effect.promise(() => client.end())
    )
    return (text: string, values: ReadonlyArray<unknown> = []) =>
      Effect.tryPromise({
        try: async () => {
          const result: Pg.QueryResult<Record<string, unknown>> = await client.query(text, [...values])
          return result.rows
        },
        catch: (error) => error
      })
  })

const events = "SELECT event_type FROM outbox.event WHERE event_type = ANY ($1) ORDER BY id"

const TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

const deep = (levels: number) => `${'{"a":'.repeat(levels)}1${"}".repeat(levels)}`

layer(Environment.layer(), { excludeTestServices: true })("outbox.publish", (it) => {
  describe("in a transaction", () => {
    it.scoped("is committed with it, or was never there", () =>
      Effect.gen(function* () {
        const query = yield* session()
        yield* query("BEGIN")
        yield* query(`SELECT outbox.publish('committed', '{}')`)
        yield* query("COMMIT")
        yield* query("BEGIN")
        yield* query(`SELECT outbox.publish('rolled_back', '{}')`)
        yield* query("ROLLBACK")
        expect(yield* query(events, [["committed", "rolled_back"]])).toEqual([{ event_type: "committed" }])
      })
    )

    it.scoped("is undone with its savepoint, and carries the whole transaction's id also inside of one", () =>
      Effect.gen(function* () {
        const query = yield* session()
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
          yield* query(
            "SELECT event_type, tx_id::text FROM outbox.event WHERE event_type = ANY ($1) ORDER BY id",
            [["before", "undone", "inside"]]
          )
        ).toEqual([
          { event_type: "before", ...transaction },
          { event_type: "inside", ...transaction }
        ])
      })
    )
  })

  describe("fills in", () => {
    const published = "SELECT * FROM outbox.event WHERE event_id = $1"

    it.scoped("a time-ordered uuid, now, version 1 and no trace, also where it is given NULL", () =>
      Effect.gen(function* () {
        const query = yield* session()
        for (const call of [`outbox.publish('plain', '{"a": 1}')`, `outbox.publish('plain', '{"a": 1}', NULL, NULL, NULL, NULL, NULL)`]) {
          const [row] = yield* query(`
            SELECT
              event_context, metadata_version, traceparent,
              substr(event_id::text, 15, 1) AS uuid_version,
              ('x' || lpad(left(replace(event_id::text, '-', ''), 12), 16, '0'))::bit(64)::bigint / 1000.0
                - extract(epoch FROM event_date_time) BETWEEN -0.1 AND 0.1 AS uuid_holds_time,
              event_date_time BETWEEN now() - interval '10 seconds' AND clock_timestamp() AS is_now
            FROM outbox.event, (SELECT ${call} AS id) AS new
            WHERE event_id = new.id
          `)
          // The SELECT's snapshot is older than what its function writes.
          expect(row).toBeUndefined()
          const [seen] = yield* query(`
            SELECT
              event_context, metadata_version, traceparent,
              substr(event_id::text, 15, 1) AS uuid_version,
              abs(
                ('x' || lpad(left(replace(event_id::text, '-', ''), 12), 16, '0'))::bit(64)::bigint / 1000.0
                - extract(epoch FROM event_date_time)
              ) < 1 AS uuid_is_of_that_time,
              event_date_time BETWEEN now() - interval '10 seconds' AND now() AS is_now
            FROM outbox.event
            WHERE event_type = 'plain'
            ORDER BY id DESC
          `)
          expect(seen).toEqual({
            event_context: { a: 1 },
            metadata_version: "1",
            traceparent: null,
            uuid_version: "7",
            uuid_is_of_that_time: true,
            is_now: true
          })
        }
      })
    )
  })
})
