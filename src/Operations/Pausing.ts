/** Stopping all relays of an outbox from taking batches, and letting them go on. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Actor } from "../schema/audit.ts"
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

  /** None if there is a pause. */
  const begin = ({ actor, reason }: Pause): Effect.Effect<Option.Option<RelayPause>, SqlError> =>
    sql`
      SELECT ${sql.literal(Counts.PAUSE_COLUMNS)} FROM outbox.pause_relays(${reason}, ${actor})
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
      const ended = yield* sql`
        SELECT ${sql.literal(Counts.PAUSE_COLUMNS)} FROM outbox.resume_relays(${actor})
      `.pipe(firstRowOf(RelayPause))
      if (Option.isNone(ended)) return yield* new NotPaused()
      yield* Effect.logInfo("Relays go on").pipe(Effect.annotateLogs({ actor }))
      return ended.value
    })
  }
}
