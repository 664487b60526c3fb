/** Asking whether a database can be used, and waiting for the answer no longer than people do. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { reasonOf } from "../internal/text.ts"
import { DatabaseState } from "./systems.ts"

/** Slower than this counts as down. */
const TIMEOUT = Duration.seconds(3)

/** What a database says about itself, or that it cannot be reached, and why. */
export const reachable = <E>(ask: Effect.Effect<DatabaseState, E>): Effect.Effect<DatabaseState> =>
  ask.pipe(
    Effect.catchAll((error) => Effect.succeed(unreachable(reasonOf(error)))),
    // Waiting for a connection cannot be interrupted.
    Effect.disconnect,
    Effect.timeoutTo({
      duration: TIMEOUT,
      onSuccess: (state) => state,
      onTimeout: () => unreachable(`no answer within ${Duration.format(TIMEOUT)}`)
    })
  )

const unreachable = (reason: string): DatabaseState =>
  new DatabaseState({ reachable: false, migrated: false, reason, version: null, pingMillis: null })
