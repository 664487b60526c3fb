/**
 * Which events a piece of code published.
 *
 * Looks into the outbox from inside of the transaction that publishes. So it needs no relay and no ClickHouse, sees what
 * is not committed yet, and nothing of what other tests do at the same time. The role of the tests must be allowed to
 * read `outbox.event`, which publishers need not be.
 *
 * @example
 * ```ts
 * import { SqlClient } from "@effect/sql"
 * import { PgClient } from "@effect/sql-pg"
 * import { layer } from "@effect/vitest"
 * import { Effect, Layer, Redacted, Schema } from "effect"
 * import { Event, EventPublisher, transaction } from "clickhouse-outbox"
 * import { PublishedEvents } from "clickhouse-outbox/testing"
 *
 * const UserCreated = Event.define({
 *   eventType: "user_created",
 *   eventContext: Schema.Struct({ userId: Schema.Number, email: Schema.String })
 * })
 *
 * const register = (userId: number, email: string) =>
 *   Effect.gen(function* () {
 *     const sql = yield* SqlClient.SqlClient
 *     yield* sql`INSERT INTO users (id, email) VALUES (${userId}, ${email})`
 *     yield* EventPublisher.publish(UserCreated({ userId, email }))
 *   }).pipe(transaction)
 *
 * const TestDatabase = EventPublisher.layer({ environment: "test" }).pipe(
 *   Layer.provideMerge(PgClient.layer({ url: Redacted.make("postgres://postgres@localhost/test") }))
 * )
 *
 * layer(TestDatabase, { excludeTestServices: true })("Registering", (it) => {
 *   it.effect("announces the user, once", () =>
 *     Effect.gen(function* () {
 *       const { events } = yield* PublishedEvents.by(register(1, "ada@example.com"))
 *       yield* PublishedEvents.requireOne(events, UserCreated, { email: "ada@example.com" })
 *       yield* PublishedEvents.requireNone(events, "user_deleted")
 *     })
 *   )
 * })
 * ```
 * @since 0.1.0
 */
import * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { rfc3339, rowsOf } from "../schema/columns.ts"
import { type TransactionFailed, transaction } from "../Transaction.ts"
import { type PublishedEvent, PublishedEventRow } from "./PublishedEvent.ts"

export type { Expected } from "./mismatch.ts"
export type { PublishedEvent } from "./PublishedEvent.ts"
export { requireNone, requireOne, UnexpectedEvents } from "./require.ts"

/**
 * Asked for the events of a transaction where there is none.
 *
 * @since 0.1.0
 * @category errors
 */
export class NotInTransaction extends Schema.TaggedError<NotInTransaction>()("NotInTransaction", {}) {
  override get message(): string {
    return "PublishedEvents.inTransaction sees the events of the transaction that it is run in, and was run in none. Run it inside of yours, or use PublishedEvents.by"
  }
}

const published = Effect.gen(function* () {
  const sql = (yield* SqlClient.SqlClient).withoutTransforms()
  return yield* rowsOf(PublishedEventRow)(sql`
    SELECT
      event_id::text AS "eventId",
      event_type AS "eventType",
      ${sql.literal(rfc3339("event_date_time"))} AS "eventDateTime",
      environment,
      event_context::text AS "eventContext",
      metadata_version::text AS "metadataVersion",
      traceparent
    FROM outbox.event
    WHERE tx_id = pg_current_xact_id_if_assigned()
    ORDER BY id
  `)
})

/**
 * The events that the surrounding transaction has published until now, in that order.
 *
 * @since 0.1.0
 * @category observing
 */
export const inTransaction: Effect.Effect<
  ReadonlyArray<PublishedEvent>,
  NotInTransaction | SqlError,
  SqlClient.SqlClient
> = Effect.gen(function* () {
  const connection = yield* Effect.serviceOption(SqlClient.TransactionConnection)
  return yield* Option.isSome(connection) ? published : new NotInTransaction()
})

/**
 * Runs `effect` in a transaction that is rolled back, whatever happens, and succeeds with its result and the events it
 * published. Deferred constraints are checked at its end, so that what would fail at COMMIT fails here too. Inside
 * another transaction it is a savepoint of that one, and what was published before does not count.
 *
 * @since 0.1.0
 * @category observing
 */
export const by = <A, E, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<
  { readonly result: A; readonly events: ReadonlyArray<PublishedEvent> },
  E | SqlError | TransactionFailed,
  R | SqlClient.SqlClient
> =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const before = yield* published
    const result = yield* effect
    yield* sql`SET CONSTRAINTS ALL IMMEDIATE`
    const after = yield* published
    return { result, events: after.slice(before.length) }
  }).pipe(rolledBack)

/** Only what fails is rolled back, so it fails with what it ended with. */
const rolledBack = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.exit(effect).pipe(
    Effect.flatMap(Effect.fail),
    transaction,
    Effect.flip,
    Effect.flatMap(
      (ended): Effect.Effect<A, E | SqlError | TransactionFailed> => (Exit.isExit(ended) ? ended : Effect.fail(ended))
    )
  )
