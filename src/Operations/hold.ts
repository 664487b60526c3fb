/** Stopping all relays of an outbox from taking batches, and letting them go on. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { RelayHold } from "../OutboxStore/model.ts"
import { rfc3339 } from "../Row.ts"
import { AlreadyHeld, NotHeld } from "./model.ts"

const COLUMNS = `held_by, reason, ${rfc3339("held_at")} AS held_at`

const decode = (rows: ReadonlyArray<unknown>): Effect.Effect<Option.Option<RelayHold>> =>
  Effect.orDie(Effect.transposeOption(Option.map(Arr.head(rows), Schema.decodeUnknown(RelayHold))))

export const relayHold = (sql: SqlClient.SqlClient): Effect.Effect<Option.Option<RelayHold>, SqlError> =>
  sql`SELECT ${sql.literal(COLUMNS)} FROM outbox.relay_hold`.pipe(
    Effect.flatMap(decode),
    Effect.withSpan("Operations.relayHold")
  )

export const hold =
  (sql: SqlClient.SqlClient) =>
  (reason: string, actor: string): Effect.Effect<RelayHold, AlreadyHeld | SqlError> =>
    // The key admits one row: of two who hold at once the second waits for the first, and inserts nothing.
    sql`
      WITH held AS (
        INSERT INTO outbox.relay_hold (held_by, reason) VALUES (${actor}, ${reason})
        ON CONFLICT DO NOTHING
        RETURNING *
      ),
      audited AS (
        INSERT INTO outbox.audit (actor, action, before, after)
        SELECT held_by, 'hold', jsonb_build_object('held', false), jsonb_build_object('held', true, 'reason', reason)
        FROM held
      )
      SELECT ${sql.literal(COLUMNS)} FROM held
    `.pipe(
      Effect.flatMap(decode),
      Effect.flatMap(
        Option.match({
          onSome: Effect.succeed,
          onNone: () => Effect.flatMap(relayHold(sql), refuse(sql, reason, actor))
        })
      ),
      Effect.tap(Effect.logWarning(`The relay is held: ${reason}`).pipe(Effect.annotateLogs({ actor }))),
      Effect.withSpan("Operations.hold")
    )

/** Unless it was let go in between. */
const refuse =
  (sql: SqlClient.SqlClient, reason: string, actor: string) =>
  (current: Option.Option<RelayHold>): Effect.Effect<RelayHold, AlreadyHeld | SqlError> =>
    Option.match(current, {
      onNone: () => hold(sql)(reason, actor),
      onSome: (hold) => new AlreadyHeld({ hold })
    })

export const resume =
  (sql: SqlClient.SqlClient) =>
  (actor: string): Effect.Effect<RelayHold, NotHeld | SqlError> =>
    // The row is deleted once: of two who resume at once the second finds none.
    sql`
      WITH released AS (
        DELETE FROM outbox.relay_hold RETURNING *
      ),
      audited AS (
        INSERT INTO outbox.audit (actor, action, before, after)
        SELECT
          ${actor}, 'resume', jsonb_build_object('held', true, 'reason', reason), jsonb_build_object('held', false)
        FROM released
      )
      SELECT ${sql.literal(COLUMNS)} FROM released
    `.pipe(
      Effect.flatMap(decode),
      Effect.flatMap(Option.match({ onSome: Effect.succeed, onNone: () => new NotHeld() })),
      Effect.tap(Effect.logInfo("The relay goes on").pipe(Effect.annotateLogs({ actor }))),
      Effect.withSpan("Operations.resume")
    )
