/** What has to be done now and then, by whichever relays run. */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Config from "../Config.ts"
import { OutboxStore } from "../OutboxStore.ts"

/** At once, then once a minute. What fails is done the next time. */
export const keepHouse = (
  config: Pick<Config.Relay, "failureRetention" | "incidentAfter">
): Effect.Effect<never, never, OutboxStore> =>
  Effect.flatMap(OutboxStore, (store) => store.housekeep(config)).pipe(
    Effect.catchAllCause((cause) => Effect.logWarning("Closed failures and incidents could not be tidied up", cause)),
    Effect.repeat(Schedule.spaced("1 minute")),
    // Mostly there is nothing to do.
    Effect.withTracerEnabled(false),
    Effect.zipRight(Effect.never)
  )
