/**
 * A transaction whose success means that it was committed.
 *
 * `SqlClient.withTransaction` succeeds although Postgres rolled back when a failed statement inside was caught and
 * ignored (COMMIT of an aborted transaction answers ROLLBACK), and turns a failed COMMIT or a lost connection into a
 * defect. {@link transaction} makes each of them a {@link TransactionFailed}. It nests, in itself and in
 * `withTransaction`, through savepoints.
 *
 * @since 0.1.0
 */
import * as SqlClient from "@effect/sql/SqlClient"
import type { Connection } from "@effect/sql/SqlConnection"
import { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { SEARCH_PATH, stating } from "./internal/meaning.ts"
import { isConnectionLost } from "./internal/sqlState.ts"

/**
 * Why a transaction did not end as its code did.
 *
 * - `RolledBack`: a failed statement inside was caught, so Postgres had already aborted the transaction. Nothing was
 *   written.
 * - `CommitFailed`: as for a deferred constraint or a serialisation failure. Nothing was written.
 * - `ConnectionLost`: before COMMIT was answered. If `committing`, it may have been committed: look before trying again.
 * - `ConcurrentSavepoints`: two transactions were nested in one at the same time; on one connection their savepoints
 *   would undo each other. Run them one after the other.
 *
 * @since 0.1.0
 * @category errors
 */
export class TransactionFailed extends Schema.TaggedError<TransactionFailed>()("TransactionFailed", {
  reason: Schema.Literal("RolledBack", "CommitFailed", "ConnectionLost", "ConcurrentSavepoints"),
  committing: Schema.Boolean,
  cause: Schema.optional(Schema.Defect)
}) {
  override get message(): string {
    switch (this.reason) {
      case "RolledBack":
        return "Postgres rolled the transaction back: a statement in it had failed and its error was caught. Let the error through, or wrap that statement in a nested transaction"
      case "CommitFailed":
        return `Postgres did not commit, nothing was written: ${explain(this.cause)}`
      case "ConnectionLost":
        return this.committing
          ? `The connection was lost while committing: look whether the transaction was written before trying again: ${explain(this.cause)}`
          : `The connection was lost, nothing was written: ${explain(this.cause)}`
      case "ConcurrentSavepoints":
        return "Two transactions were nested in one at the same time. Run them one after the other"
    }
  }
}

const explain = (cause: unknown): string => {
  const inner = cause instanceof SqlError ? cause.cause : cause
  return inner instanceof Error ? inner.message : String(inner)
}

/**
 * Runs `effect` in a transaction: if it succeeds, its statements were committed; if it fails, dies or is interrupted,
 * none was. Inside another transaction it is a savepoint of that one.
 *
 * @example
 * ```ts
 * import { SqlClient } from "@effect/sql"
 * import { Effect } from "effect"
 * import { Event, EventPublisher, transaction } from "clickhouse-outbox"
 *
 * const createUser = (email: string) =>
 *   Effect.gen(function* () {
 *     const sql = yield* SqlClient.SqlClient
 *     yield* sql`INSERT INTO users (email) VALUES (${email})`
 *     yield* EventPublisher.publish(Event.make({ eventType: "user_created", eventContext: { email } }))
 *   }).pipe(transaction)
 * ```
 * @since 0.1.0
 * @category combinators
 */
export const transaction = <A, E, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E | SqlError | TransactionFailed, R | SqlClient.SqlClient> =>
  Effect.serviceOption(SqlClient.TransactionConnection).pipe(
    Effect.flatMap(
      Option.match({
        onNone: () => outermost(effect),
        onSome: ([connection, depth]) => nested(connection, depth + 1, effect)
      })
    ),
    Effect.withSpan("sql.transaction", { kind: "client", attributes: { "db.system.name": "postgresql" } })
  )

/**
 * {@link transaction} of this library's own statements: whatever the session is set to, they mean what is written, under
 * the `settings` that they state beyond that. One that cannot be committed is an error of SQL like any other.
 *
 * @internal
 */
export const atomically =
  (sql: SqlClient.SqlClient, settings: string) =>
  <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E | SqlError> =>
    Effect.zipRight(sql.unsafe(stating(`${OWN}; ${settings}; ${WITH_TRIGGERS}`)), effect).pipe(
      transaction,
      Effect.mapError((error) =>
        error instanceof TransactionFailed ? new SqlError({ cause: error, message: error.message }) : error
      ),
      Effect.provideService(SqlClient.SqlClient, sql)
    )

/**
 * Statements name the schema of everything. A program that freezes in a transaction must not keep its locks, and one that
 * is only slow must not lose it.
 */
const OWN = `SET LOCAL search_path = ${SEARCH_PATH}; SET LOCAL idle_in_transaction_session_timeout = '10s'`

/** Those of foreign keys, too. Only a superuser may have turned them off, and only one may turn them on. */
const WITH_TRIGGERS = `
  SELECT CASE
    WHEN current_setting('session_replication_role') <> 'origin' THEN set_config('session_replication_role', 'origin', true)
  END`

const outermost = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.acquireUseRelease(
    reserve,
    ({ connection }) =>
      between(connection, 0, effect, {
        begin: connection.executeRaw("BEGIN", []),
        end: commit(connection),
        undo: connection.executeRaw("ROLLBACK", [])
      }),
    ({ scope }, exit) => Scope.close(scope, exit)
  )

/** The connection has a scope of its own: the scope of `effect` may live longer than its transaction. */
const reserve = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const scope = yield* Scope.make()
  return { scope, connection: yield* Scope.extend(sql.reserve, scope) }
})

const nested = <A, E, R>(connection: Connection, depth: number, effect: Effect.Effect<A, E, R>) => {
  // The name that `withTransaction` gives it.
  const savepoint = `SAVEPOINT effect_sql_${depth}`
  return Effect.acquireUseRelease(
    claim(connection, depth),
    () =>
      between(connection, depth, effect, {
        begin: connection.executeRaw(savepoint, []),
        end: release(connection, savepoint),
        undo: connection.executeRaw(`ROLLBACK TO ${savepoint}; RELEASE ${savepoint}`, [])
      }),
    (open) => Effect.sync(() => open.delete(depth))
  )
}

/** The savepoints open on each connection, by depth. */
const openSavepoints = new WeakMap<Connection, Set<number>>()

/** Two savepoints of one depth have one name: the second would undo the first, so it must not even be set. */
const claim = (connection: Connection, depth: number): Effect.Effect<Set<number>, TransactionFailed> =>
  Effect.suspend(() => {
    const open = openSavepoints.get(connection) ?? new Set()
    if (open.has(depth)) return new TransactionFailed({ reason: "ConcurrentSavepoints", committing: false })
    openSavepoints.set(connection, open.add(depth))
    return Effect.succeed(open)
  })

/**
 * Runs `effect` on the connection between `begin` and `end`, or `undo` where either of the last two fails. Not where
 * `begin` does: what `undo` rolls back to would be a savepoint from before.
 */
const between = <A, E, R, E2>(
  connection: Connection,
  depth: number,
  effect: Effect.Effect<A, E, R>,
  {
    begin,
    end,
    undo
  }: {
    readonly begin: Effect.Effect<unknown, SqlError>
    readonly end: Effect.Effect<unknown, E2>
    readonly undo: Effect.Effect<unknown, SqlError>
  }
): Effect.Effect<A, E | E2 | SqlError, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.zipRight(
      begin,
      effect.pipe(
        Effect.provideService(SqlClient.TransactionConnection, [connection, depth]),
        restore,
        Effect.zipLeft(end),
        // If this cannot be said any more, the connection is gone, and Postgres has rolled back by itself.
        Effect.onError(() =>
          Effect.catchAll(undo, (error) => Effect.logDebug("A transaction ended with its connection", error))
        )
      )
    )
  )

const commit = (connection: Connection): Effect.Effect<unknown, TransactionFailed> =>
  connection.executeRaw("COMMIT", []).pipe(
    Effect.mapError(
      (cause) =>
        new TransactionFailed({
          reason: isConnectionLost(cause) ? "ConnectionLost" : "CommitFailed",
          committing: true,
          cause
        })
    ),
    // COMMIT of a transaction that Postgres has aborted succeeds, and says what it really did.
    Effect.filterOrFail(
      (result) => !(Predicate.hasProperty(result, "command") && result.command === "ROLLBACK"),
      () => new TransactionFailed({ reason: "RolledBack", committing: false })
    )
  )

/** An error where a statement since the savepoint has failed. */
const release = (connection: Connection, savepoint: string): Effect.Effect<unknown, TransactionFailed> =>
  Effect.mapError(
    connection.executeRaw(`RELEASE ${savepoint}`, []),
    (cause) =>
      new TransactionFailed({
        reason: isConnectionLost(cause) ? "ConnectionLost" : "RolledBack",
        committing: false,
        cause
      })
  )
