/** What has to be done now and then, by whichever relays run. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Schedule from "effect/Schedule"
import type * as Config from "../Config.ts"
import * as Metrics from "../Metrics.ts"
import { OutboxStore, type Reclaimed } from "../OutboxStore.ts"

/** Several times in each retention, which is short in tests only. */
const pause = ({ eventRetention }: Pick<Config.Relay, "eventRetention">): Duration.Duration =>
  Duration.clamp(Duration.times(eventRetention, 0.1), { minimum: "200 millis", maximum: "1 minute" })

/** At once, then again and again. What fails is done the next time. Not traced: mostly there is nothing to do. */
export const keepHouse = (
  config: Pick<Config.Relay, "eventRetention" | "failureRetention" | "incidentAfter">
): Effect.Effect<never, never, OutboxStore> =>
  Effect.flatMap(OutboxStore, (store) => store.maintain(config)).pipe(
    Effect.flatMap(report),
    Effect.catchAllCause((cause) => Effect.logWarning("What is old could not be tidied up", cause)),
    Effect.repeat(Schedule.spaced(pause(config))),
    Effect.withTracerEnabled(false),
    Effect.zipRight(Effect.never)
  )

const report = ({ emptied, movedTo }: Reclaimed) =>
  Effect.gen(function* () {
    yield* Effect.forEach(emptied, (slot) => Effect.logInfo(`Emptied slot ${slot}, whose events were all delivered`))
    if (movedTo === null) return
    yield* Metric.increment(Metrics.slotRotations)
    yield* Effect.logInfo(`New events go to slot ${movedTo}`)
  })
