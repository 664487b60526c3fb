/**
 * A transaction whose success means that it was committed.
 *
 * `SqlClient.withTransaction` succeeds although Postgres rolled back when a failed statement inside was caught and
 * ignored (COMMIT of an aborted transaction answers ROLLBACK), and turns a failed COMMIT or a lost connection into a
 * defect. {@link transaction} makes each of them a {@link TransactionFailed}. It nests, in itself and in
 * `withTransaction`, through savepoints, and sends the same statements as `withTransaction`.
 *
 * @since 0.1.0
 */
import * as SqlClient from "@effect/sql/SqlClient"
import type { Connection } from "@effect/sql/SqlConnection"
import { SqlError } from "@effect/sql/SqlError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"

/**
 * Why a transaction did not end as its code did.
 *
 * - `RolledBack`: a failed statement inside was caught, so Postgres had already aborted the transaction. Nothing was
 *   written.
 * - `CommitRefused`: Postgres refused the COMMIT, as for a deferred constraint or a serialisation failure. Nothing was
 *   written.
 * - `ConnectionLost`: before COMMIT was answered. If `committing`, it may have been committed: look before trying again.
 * - `ConcurrentSavepoints`: two transactions were nested in one at the same time; on one connection their savepoints
 *   would undo each other. Run them one after the other.
 *
 * @since 0.1.0
 * @category errors
 */
export class TransactionFailed extends Schema.TaggedError<TransactionFailed>()("TransactionFailed", {
  reason: Schema.Literal("RolledBack", "CommitRefused", "ConnectionLost", "ConcurrentSavepoints"),
  committing: Schema.Boolean,
  cause: Schema.optional(Schema.Defect)
}) {
  override get message(): string {
    switch (this.reason) {
      case "RolledBack":
        return "Postgres rolled the transaction back: a statement in it had failed and its error was caught. Let the error through, or wrap that statement in a nested transaction"
      case "CommitRefused":
        return `Postgres refused to commit, nothing was written: ${explain(this.cause)}`
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

/** SQLSTATE classes 08 and 57 mean that the server or the way to it is gone; no SQLSTATE at all means the same. */
const connectionLost = ({ cause }: SqlError): boolean =>
  !(Predicate.hasProperty(cause, "code") && Predicate.isString(cause.code) && /^(?!08|57)[0-9A-Z]{5}$/.test(cause.code))

const commit = (connection: Connection): Effect.Effect<void> =>
  connection.executeRaw("COMMIT", []).pipe(
    Effect.mapError(
      (cause) =>
        new TransactionFailed({
          reason: connectionLost(cause) ? "ConnectionLost" : "CommitRefused",
          committing: true,
          cause
        })
    ),
    // COMMIT of a transaction that Postgres has aborted succeeds, and says what it really did.
    Effect.filterOrFail(
      (result) => !(Predicate.hasProperty(result, "command") && result.command === "ROLLBACK"),
      () => new TransactionFailed({ reason: "RolledBack", committing: false })
    ),
    Effect.asVoid,
    Effect.orDie
  )

/** The savepoints open on each connection, by depth. */
const openSavepoints = new WeakMap<Connection, Set<number>>()

/** Two savepoints of one depth have one name: the second would undo the first, so it must not even be set. */
const oneAtATime =
  (connection: Connection, depth: number) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    Effect.acquireUseRelease(
      Effect.suspend(() => {
        const open = openSavepoints.get(connection) ?? new Set()
        if (open.has(depth)) return new TransactionFailed({ reason: "ConcurrentSavepoints", committing: false })
        openSavepoints.set(connection, open.add(depth))
        return Effect.succeed(open)
      }),
      () => effect,
      (open) => Effect.sync(() => open.delete(depth))
    )

/** Postgres refuses this when a statement since the savepoint has failed. */
const release = (connection: Connection, depth: number) =>
  Effect.mapError(
    connection.executeRaw(`RELEASE SAVEPOINT effect_sql_${depth}`, []),
    (cause) =>
      new TransactionFailed({
        reason: connectionLost(cause) ? "ConnectionLost" : "RolledBack",
        committing: false,
        cause
      })
  )

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
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    Effect.contextWithEffect((outer: Context.Context<R>) =>
      Option.match(Context.getOption(outer, SqlClient.TransactionConnection), {
        onNone: () => withTransaction(sql)(effect),
        onSome: ([connection, parentDepth]) => {
          const depth = parentDepth + 1
          return withTransaction(sql)(Effect.zipLeft(effect, release(connection, depth))).pipe(
            oneAtATime(connection, depth)
          )
        }
      })
    )
  ).pipe(
    Effect.catchSomeDefect((defect) =>
      defect instanceof TransactionFailed ? Option.some(Effect.fail(defect)) : Option.none()
    )
  )

const withTransaction = (sql: SqlClient.SqlClient) =>
  SqlClient.makeWithTransaction({
    transactionTag: SqlClient.TransactionConnection,
    spanAttributes: [["db.system.name", "postgresql"]],
    acquireConnection: Effect.flatMap(Scope.make(), (scope) =>
      Effect.map(Scope.extend(sql.reserve, scope), (connection) => [scope, connection] as const)
    ),
    begin: (connection) => connection.executeRaw("BEGIN", []),
    savepoint: (connection, depth) => connection.executeRaw(`SAVEPOINT effect_sql_${depth}`, []),
    commit,
    // If this cannot be said any more, the connection is gone, and Postgres has rolled back by itself.
    rollback: (connection) => Effect.ignore(connection.executeRaw("ROLLBACK", [])),
    rollbackSavepoint: (connection, depth) =>
      Effect.ignore(connection.executeRaw(`ROLLBACK TO SAVEPOINT effect_sql_${depth}`, []))
  })
