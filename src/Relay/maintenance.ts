/** Periodic maintenance: incidents, retention, slots. Every relay does it; the store sees to it that one does it at a time. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Schedule from "effect/Schedule"
import type * as Config from "../Config.ts"
import * as Metrics from "../Metrics.ts"
import { OutboxStore, type Reclaimed } from "../OutboxStore.ts"

export interface Options extends Pick<Config.Relay, "eventRetention" | "failureRetention" | "incidentAfter"> {}

/**
 * At once, and then again and again. What fails is done the next time. Not traced: most of the time there is nothing to
 * do.
 */
export const maintain = ({
  eventRetention,
  failureRetention,
  incidentAfter
}: Options): Effect.Effect<never, never, OutboxStore> =>
  Effect.flatMap(OutboxStore, (store) => store.maintain({ eventRetention, failureRetention, incidentAfter })).pipe(
    Effect.flatMap(report),
    // Not of a defect, which ends the relay: a bug would be met again in every round, and nobody would look for it.
    Effect.catchAll((error) => Effect.logWarning("Maintenance failed, and is tried again", error)),
    Effect.repeat(Schedule.spaced(interval(eventRetention))),
    Effect.withTracerEnabled(false),
    Effect.zipRight(Effect.never)
  )

/** Several times in each retention, which is short in tests only. */
const interval = (eventRetention: Duration.Duration): Duration.Duration =>
  Duration.clamp(Duration.times(eventRetention, 0.1), { minimum: "200 millis", maximum: "1 minute" })

const report = ({ emptied, movedTo }: Reclaimed) =>
  Effect.gen(function* () {
    yield* Effect.forEach(emptied, (slot) => Effect.logInfo(`Emptied slot ${slot}, whose events were all delivered`))
    if (movedTo === null) return
    yield* Metric.increment(Metrics.slotRotations)
    yield* Effect.logInfo(`New events go to slot ${movedTo}`)
  })
