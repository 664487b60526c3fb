/** Stopping all relays of an outbox from taking batches, and letting them go on. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { type Actor, insertAudit } from "../schema/audit.ts"
import { firstRowOf } from "../schema/columns.ts"
import * as Counts from "../schema/counts.ts"
import { RelayPause } from "../schema/status.ts"
import { AlreadyPaused, NotPaused } from "../schema/systems.ts"

interface Pause {
  readonly reason: string
  readonly actor: Actor
}

export const make = (sql: SqlClient.SqlClient) => {
  const relayPause = Effect.withSpan(Counts.relayPause(sql), "Operations.relayPause")

  /** None if there is a pause. The key admits one row: of two who pause at once the second waits, and inserts nothing. */
  const begin = ({ actor, reason }: Pause): Effect.Effect<Option.Option<RelayPause>, SqlError> =>
    sql`
      WITH paused AS (
        INSERT INTO outbox.relay_pause (paused_by, reason) VALUES (${actor}, ${reason})
        ON CONFLICT DO NOTHING
        RETURNING *
      ),
      audited AS (
        ${insertAudit(sql, {
          actor,
          action: "pause",
          before: sql`jsonb_build_object('paused', false)`,
          after: sql`jsonb_build_object('paused', true, 'reason', reason)`,
          from: sql`paused`
        })}
      )
      SELECT ${sql.literal(Counts.PAUSE_COLUMNS)} FROM paused
    `.pipe(firstRowOf(RelayPause))

  /** Tries again if the pause that was in the way has ended when it is read. */
  const pauseUnlessPaused = (pause: Pause): Effect.Effect<RelayPause, AlreadyPaused | SqlError> =>
    Effect.gen(function* () {
      const begun = yield* begin(pause)
      if (Option.isSome(begun)) return begun.value
      const current = yield* relayPause
      return yield* Option.match(current, {
        onNone: () => pauseUnlessPaused(pause),
        onSome: (pause) => new AlreadyPaused({ pause })
      })
    })

  return {
    relayPause,

    pause: Effect.fn("Operations.pause")(function* (pause: Pause) {
      const paused = yield* pauseUnlessPaused(pause)
      yield* Effect.logWarning(`Relays are paused: ${pause.reason}`).pipe(Effect.annotateLogs({ actor: pause.actor }))
      return paused
    }),

    resume: Effect.fn("Operations.resume")(function* ({ actor }: { readonly actor: Actor }) {
      // The row is deleted once: of two who resume at once the second finds none.
      const ended = yield* sql`
        WITH ended AS (
          DELETE FROM outbox.relay_pause RETURNING *
        ),
        audited AS (
          ${insertAudit(sql, {
            actor,
            action: "resume",
            before: sql`jsonb_build_object('paused', true, 'reason', reason)`,
            after: sql`jsonb_build_object('paused', false)`,
            from: sql`ended`
          })}
        )
        SELECT ${sql.literal(Counts.PAUSE_COLUMNS)} FROM ended
      `.pipe(firstRowOf(RelayPause))
      if (Option.isNone(ended)) return yield* new NotPaused()
      yield* Effect.logInfo("Relays go on").pipe(Effect.annotateLogs({ actor }))
      return ended.value
    })
  }
}
