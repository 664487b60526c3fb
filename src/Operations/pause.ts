/** Stopping all relays of an outbox from taking batches, and letting them go on. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { PAUSE_COLUMNS } from "../schema/counts.ts"
import { RelayPause } from "../schema/status.ts"
import { AlreadyPaused, NotPaused } from "./model.ts"

const decode = (rows: ReadonlyArray<unknown>): Effect.Effect<Option.Option<RelayPause>> =>
  Effect.orDie(Effect.transposeOption(Option.map(Arr.head(rows), Schema.decodeUnknown(RelayPause))))

export const relayPause = (sql: SqlClient.SqlClient): Effect.Effect<Option.Option<RelayPause>, SqlError> =>
  sql`SELECT ${sql.literal(PAUSE_COLUMNS)} FROM outbox.relay_pause`.pipe(
    Effect.flatMap(decode),
    Effect.withSpan("Operations.relayPause")
  )

export const pause =
  (sql: SqlClient.SqlClient) =>
  (reason: string, actor: string): Effect.Effect<RelayPause, AlreadyPaused | SqlError> =>
    // The key admits one row: of two who pause at once the second waits for the first, and inserts nothing.
    sql`
      WITH paused AS (
        INSERT INTO outbox.relay_pause (paused_by, reason) VALUES (${actor}, ${reason})
        ON CONFLICT DO NOTHING
        RETURNING *
      ),
      audited AS (
        INSERT INTO outbox.audit (actor, action, before, after)
        SELECT paused_by, 'pause', jsonb_build_object('paused', false), jsonb_build_object('paused', true, 'reason', reason)
        FROM paused
      )
      SELECT ${sql.literal(PAUSE_COLUMNS)} FROM paused
    `.pipe(
      Effect.flatMap(decode),
      Effect.flatMap(
        Option.match({
          onSome: Effect.succeed,
          onNone: () => Effect.flatMap(relayPause(sql), refuse(sql, reason, actor))
        })
      ),
      Effect.tap(Effect.logWarning(`Relays are paused: ${reason}`).pipe(Effect.annotateLogs({ actor }))),
      Effect.withSpan("Operations.pause")
    )

/** Unless it was resumed in between. */
const refuse =
  (sql: SqlClient.SqlClient, reason: string, actor: string) =>
  (current: Option.Option<RelayPause>): Effect.Effect<RelayPause, AlreadyPaused | SqlError> =>
    Option.match(current, {
      onNone: () => pause(sql)(reason, actor),
      onSome: (pause) => new AlreadyPaused({ pause })
    })

export const resume =
  (sql: SqlClient.SqlClient) =>
  (actor: string): Effect.Effect<RelayPause, NotPaused | SqlError> =>
    // The row is deleted once: of two who resume at once the second finds none.
    sql`
      WITH released AS (
        DELETE FROM outbox.relay_pause RETURNING *
      ),
      audited AS (
        INSERT INTO outbox.audit (actor, action, before, after)
        SELECT
          ${actor}, 'resume', jsonb_build_object('paused', true, 'reason', reason), jsonb_build_object('paused', false)
        FROM released
      )
      SELECT ${sql.literal(PAUSE_COLUMNS)} FROM released
    `.pipe(
      Effect.flatMap(decode),
      Effect.flatMap(Option.match({ onSome: Effect.succeed, onNone: () => new NotPaused() })),
      Effect.tap(Effect.logInfo("Relays go on").pipe(Effect.annotateLogs({ actor }))),
      Effect.withSpan("Operations.resume")
    )
