/** How long the steps of a delivery take. */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import type * as Metrics from "../Metrics.ts"

type Histogram = typeof Metrics.insertSeconds

/** Takes the time from here on. The effect it succeeds with ends it. */
export const startTimer = (histogram: Histogram): Effect.Effect<Effect.Effect<void>> =>
  Effect.map(Clock.currentTimeNanos, (begun) =>
    Effect.flatMap(Clock.currentTimeNanos, (ended) =>
      Metric.update(histogram, Duration.toSeconds(Duration.nanos(ended - begun)))
    )
  )

/** Takes the time of an effect, whether it succeeds or fails: what takes long most often fails. */
export const timed =
  (histogram: Histogram) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.flatMap(startTimer(histogram), (stop) => Effect.ensuring(effect, stop))
