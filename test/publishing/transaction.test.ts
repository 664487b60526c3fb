import * as SqlClient from "@effect/sql/SqlClient"
import { SqlError } from "@effect/sql/SqlError"
import * as PgClient from "@effect/sql-pg/PgClient"
import { expect, layer } from "@effect/vitest"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { transaction } from "../../src/Transaction.ts"
import * as Environment from "../support/environment.ts"
import * as Proxy from "../support/proxy.ts"
import { until } from "../support/wait.ts"

class Refused extends Data.TaggedError("Refused")<{ readonly why: string }> {}

const createTables = Layer.effectDiscard(
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    sql.unsafe(`
      CREATE TABLE users (name text PRIMARY KEY, seat integer UNIQUE DEFERRABLE INITIALLY DEFERRED);
      CREATE TABLE cancelled (n integer);
      CREATE FUNCTION cancel() RETURNS trigger LANGUAGE plpgsql
        AS 'BEGIN PERFORM pg_cancel_backend(pg_backend_pid()); PERFORM pg_sleep(60); RETURN NULL; END';
      CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON cancelled DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION cancel();
    `)
  )
)

const insert = (name: string, seat?: number) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) => sql`INSERT INTO users (name, seat) VALUES (${name}, ${seat ?? null})`)

const written = (...names: ReadonlyArray<string>) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) => sql`SELECT name FROM users WHERE name = ANY (${names}) ORDER BY name`
  ).pipe(Effect.map((rows) => rows.map(({ name }) => name)))

/** A statement that fails, and whose error is thrown away. */
const swallowed = Effect.flatMap(SqlClient.SqlClient, (sql) => Effect.ignore(sql`SELECT 1 / 0`))

/** A `SqlClient` that loses its connection: before `statement` has arrived at Postgres, or before its answer comes back. */
const losing = (before: "arrival" | "answer", statement: string) =>
  Effect.gen(function* () {
    const proxy = yield* Proxy.make(String((yield* Environment.Environment).DATABASE_URL))
    let sent = false
    yield* proxy.cutNext(({ bytes, from }) => {
      sent ||= from === "client" && bytes.includes(statement)
      return sent && from === (before === "arrival" ? "client" : "server") ? 0 : undefined
    })
    return PgClient.layer({ url: Redacted.make(proxy.url), maxConnections: 2 })
  }).pipe(Layer.unwrapScoped)

layer(createTables.pipe(Layer.provideMerge(Environment.layer({ DATABASE_MAX_CONNECTIONS: "3" }))), {
  excludeTestServices: true
})((it) => {
  it.effect("A transaction that succeeds was committed, and succeeds with the result of its code", () =>
    Effect.gen(function* () {
      expect(yield* transaction(Effect.as(insert("ada"), 7))).toBe(7)
      expect(yield* written("ada")).toEqual(["ada"])
    })
  )

  it.effect("A transaction that succeeds leaves the scope of its code open", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      let open = false
      const acquire = Effect.acquireRelease(
        Effect.sync(() => {
          open = true
        }),
        () =>
          Effect.sync(() => {
            open = false
          })
      )
      yield* Scope.extend(transaction(acquire), scope)
      expect(open).toBe(true)
      yield* Scope.close(scope, Exit.void)
      expect(open).toBe(false)
    })
  )

  it.effect("A transaction writes nothing when its code fails, and the error comes through as it is", () =>
    Effect.gen(function* () {
      const error = new Refused({ why: "not now" })
      const exit = yield* Effect.exit(transaction(Effect.zipRight(insert("bob"), error)))
      expect(exit).toEqual(Exit.fail(error))
      expect(yield* written("bob")).toEqual([])
    })
  )

  it.effect("A transaction writes nothing when a statement fails, and its SqlError comes through", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(transaction(Effect.zipRight(insert("bob"), insert("bob"))))
      expect(error).toBeInstanceOf(SqlError)
      expect(error).toMatchObject({ cause: { constraint: "users_pkey" } })
      expect(yield* written("bob")).toEqual([])
    })
  )

  it.effect("A transaction writes nothing when its code dies, and the defect comes through", () =>
    Effect.gen(function* () {
      const exit = yield* Effect.exit(transaction(Effect.zipRight(insert("bob"), Effect.die("bug"))))
      expect(exit).toEqual(Exit.die("bug"))
      expect(yield* written("bob")).toEqual([])
    })
  )

  it.effect("A transaction writes nothing when it is interrupted, also in the middle of a statement", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      for (const rest of [Effect.never, sql`SELECT pg_sleep(60)`]) {
        const inserted = yield* Deferred.make<void>()
        const fiber = yield* Effect.fork(
          transaction(insert("bob").pipe(Effect.zipRight(Deferred.succeed(inserted, undefined)), Effect.zipRight(rest)))
        )
        yield* Deferred.await(inserted)
        expect(Exit.isInterrupted(yield* Fiber.interrupt(fiber))).toBe(true)
        expect(yield* written("bob")).toEqual([])
      }
    })
  )

  it.effect("A transaction that Postgres refuses to commit fails with CommitFailed, where withTransaction dies", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const sameSeat = Effect.zipRight(insert("carol", 1), insert("dave", 1))
      expect(yield* Effect.exit(sql.withTransaction(sameSeat))).toMatchObject({ cause: { _tag: "Die" } })

      const error = yield* Effect.flip(transaction(sameSeat))
      expect(error).toMatchObject({ _tag: "TransactionFailed", reason: "CommitFailed" })
      expect(error.message).toContain('violates unique constraint "users_seat_key"')
      expect(yield* written("carol", "dave")).toEqual([])
    })
  )

  it.effect(
    "A transaction that Postgres refuses to commit fails with CommitFailed when an administrator cancels the COMMIT",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const error = yield* Effect.flip(transaction(sql`INSERT INTO cancelled VALUES (1)`))
        expect(error).toMatchObject({ reason: "CommitFailed" })
        expect(error.message).toContain("nothing was written: canceling statement due to user request")
      })
  )

  it.effect(
    "A transaction in which the error of a failed statement was swallowed fails with RolledBack, where withTransaction succeeds",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const careless = Effect.zipRight(insert("erin"), swallowed)
        yield* sql.withTransaction(careless)
        expect(yield* written("erin")).toEqual([])

        const error = yield* Effect.flip(transaction(careless))
        expect(error).toMatchObject({ _tag: "TransactionFailed", reason: "RolledBack", committing: false })
        expect(yield* written("erin")).toEqual([])
      })
  )

  it.effect(
    "A transaction in which the error of a failed statement was swallowed fails with RolledBack when it is nested, and the outer one goes on without it",
    () =>
      Effect.gen(function* () {
        const error = yield* transaction(
          Effect.gen(function* () {
            yield* insert("frank")
            const error = yield* Effect.flip(transaction(Effect.zipRight(insert("grace"), swallowed)))
            yield* insert("heidi")
            return error
          })
        )
        expect(error).toMatchObject({ _tag: "TransactionFailed", reason: "RolledBack" })
        expect(yield* written("frank", "grace", "heidi")).toEqual(["frank", "heidi"])
      })
  )

  it.effect(
    "A transaction in which the error of a failed statement was swallowed cannot be saved by a nested one that comes after it",
    () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(
          transaction(
            Effect.gen(function* () {
              yield* Effect.ignore(transaction(Effect.fail("handled")))
              yield* insert("ivan")
              yield* swallowed
              yield* Effect.ignore(transaction(insert("judy")))
            })
          )
        )
        expect(error).toMatchObject({ reason: "RolledBack" })
        expect(yield* written("ivan", "judy")).toEqual([])
      })
  )

  it.effect(
    "A transaction whose connection is lost before COMMIT fails with ConnectionLost, where withTransaction dies",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const terminated = Effect.zipRight(
          insert("karl"),
          Effect.ignore(sql`SELECT pg_terminate_backend(pg_backend_pid())`)
        )
        expect(yield* Effect.exit(sql.withTransaction(terminated))).toMatchObject({ cause: { _tag: "Die" } })

        const error = yield* Effect.flip(transaction(terminated))
        expect(error).toMatchObject({ _tag: "TransactionFailed", reason: "ConnectionLost" })
        expect(yield* written("karl")).toEqual([])
      })
  )

  it.effect(
    "A transaction whose connection is lost fails with the error of the statement that noticed, if that is not swallowed",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const error = yield* Effect.flip(
          transaction(Effect.zipRight(insert("karl"), sql`SELECT pg_terminate_backend(pg_backend_pid())`))
        )
        expect(error).toMatchObject({ _tag: "SqlError", cause: { code: "57P01" } })
      })
  )

  it.effect(
    "A transaction whose connection is lost on COMMIT's way there fails with ConnectionLost, and nothing was written",
    () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(Effect.provide(transaction(insert("laura")), losing("arrival", "COMMIT")))
        expect(error).toMatchObject({ reason: "ConnectionLost", committing: true })
        expect(yield* written("laura")).toEqual([])
      })
  )

  it.effect(
    "A transaction whose connection is lost on COMMIT's way back fails with ConnectionLost, which says to look: it was written",
    () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(Effect.provide(transaction(insert("mike")), losing("answer", "COMMIT")))
        expect(error).toMatchObject({ reason: "ConnectionLost", committing: true })
        expect(error.message).toContain("look whether the transaction was written before trying again")
        expect(yield* until(written("mike"), (names) => names.length > 0)).toEqual(["mike"])
      })
  )

  it.effect(
    "A transaction whose connection is lost at the end of a nested one fails that one with ConnectionLost, and nothing was written",
    () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(
          Effect.provide(transaction(transaction(insert("nina"))), losing("arrival", "RELEASE"))
        )
        expect(error).toMatchObject({ reason: "ConnectionLost", committing: false })
        expect(error.message).toContain("nothing was written")
        expect(yield* written("nina")).toEqual([])
      })
  )

  it.effect("A transaction in another is undone alone if its failure is handled", () =>
    Effect.gen(function* () {
      yield* transaction(
        Effect.gen(function* () {
          yield* insert("oscar")
          yield* Effect.ignore(transaction(Effect.zipRight(insert("peggy"), insert("oscar"))))
          yield* transaction(insert("quinn"))
        })
      )
      expect(yield* written("oscar", "peggy", "quinn")).toEqual(["oscar", "quinn"])
    })
  )

  it.effect("A transaction in another is undone with it", () =>
    Effect.gen(function* () {
      yield* Effect.ignore(transaction(Effect.zipRight(transaction(insert("rita")), Effect.fail("handled"))))
      expect(yield* written("rita")).toEqual([])
    })
  )

  it.effect("A transaction in another is undone alone if it is interrupted", () =>
    Effect.gen(function* () {
      yield* transaction(
        Effect.gen(function* () {
          yield* insert("steve")
          yield* Effect.timeoutOption(transaction(Effect.zipRight(insert("trent"), Effect.never)), "50 millis")
        })
      )
      expect(yield* written("steve", "trent")).toEqual(["steve"])
    })
  )

  it.effect("A transaction in another may be nested in withTransaction, and withTransaction in it", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql.withTransaction(
        Effect.gen(function* () {
          yield* insert("ursula")
          yield* Effect.ignore(transaction(Effect.zipRight(insert("victor"), Effect.fail("handled"))))
          yield* transaction(
            Effect.gen(function* () {
              yield* Effect.ignore(sql.withTransaction(Effect.zipRight(insert("wendy"), Effect.fail("handled"))))
              yield* sql.withTransaction(insert("xavier"))
            })
          )
        })
      )
      expect(yield* written("ursula", "victor", "wendy", "xavier")).toEqual(["ursula", "xavier"])
    })
  )

  it.effect(
    "A transaction in another fails with ConcurrentSavepoints while there is one already, whose work is left as it was",
    () =>
      Effect.gen(function* () {
        const error = yield* transaction(
          Effect.gen(function* () {
            const inserted = yield* Deferred.make<void>()
            const finish = yield* Deferred.make<void>()
            const first = yield* Effect.fork(
              transaction(
                insert("yves").pipe(
                  Effect.zipRight(Deferred.succeed(inserted, undefined)),
                  Effect.zipRight(Deferred.await(finish))
                )
              )
            )
            yield* Deferred.await(inserted)
            const error = yield* Effect.flip(transaction(Effect.zipRight(insert("zoe"), Effect.fail("undone"))))
            yield* Deferred.succeed(finish, undefined)
            yield* Fiber.join(first)
            yield* transaction(insert("zack"))
            return error
          })
        )
        expect(error).toMatchObject({ _tag: "TransactionFailed", reason: "ConcurrentSavepoints" })
        expect(yield* written("yves", "zack", "zoe")).toEqual(["yves", "zack"])
      })
  )

  it.effect("A transaction gives its connection back, however it ends", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const ends: ReadonlyArray<Effect.Effect<unknown, unknown, SqlClient.SqlClient>> = [
        Effect.void,
        Effect.fail("failure"),
        Effect.die("defect"),
        Effect.interrupt,
        swallowed,
        Effect.zipRight(insert("anna", 9), insert("bert", 9)),
        transaction(swallowed),
        Effect.ignore(sql`SELECT pg_terminate_backend(pg_backend_pid())`),
        Effect.timeout(sql`SELECT pg_sleep(60)`, "5 millis")
      ]
      const runs = Array.from({ length: 10 }, () => ends).flat()
      // Two of the pool's three connections: cancelling a statement takes one more.
      yield* Effect.forEach(runs, (end) => Effect.exit(transaction(end)), { concurrency: 2 })
      const sessions = sql`
        SELECT state
        FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'clickhouse-outbox'
      `
      const idle = yield* until(sessions, (rows) => rows.every(({ state }) => state === "idle"))
      expect(idle.length).toBeLessThan(3)
      expect(yield* transaction(Effect.succeed("still works"))).toBe("still works")
    })
  )
})
