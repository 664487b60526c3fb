/** Asking whether a database can be used, and waiting for the answer no longer than people do. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { DatabaseState } from "../schema/systems.ts"
import { reasonOf } from "./text.ts"

/** Who takes longer does not answer. */
const PATIENCE = Duration.seconds(3)

const unreachable = (reason: string): DatabaseState =>
  new DatabaseState({ reachable: false, migrated: false, reason, version: null, pingMillis: null })

export const inTime = <E>(ask: Effect.Effect<DatabaseState, E>): Effect.Effect<DatabaseState> =>
  ask.pipe(
    Effect.catchAll((error) => Effect.succeed(unreachable(reasonOf(error)))),
    // Waiting for a connection cannot be interrupted.
    Effect.disconnect,
    Effect.timeoutTo({
      duration: PATIENCE,
      onSuccess: (state) => state,
      onTimeout: () => unreachable(`no answer within ${Duration.format(PATIENCE)}`)
    })
  )
