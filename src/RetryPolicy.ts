/**
 * How long to wait before a batch is tried again, by class of error.
 *
 * Waits grow exponentially from `retryBase` to `retryCap`, with jitter so that relays which failed together do not come
 * back together. They go on without end: no event is given up because a server was down. Where somebody must put
 * something right, waits begin at `retryCap` and grow to six times as much.
 *
 * Only relays need this module. An application that publishes has no use for it: do not depend on it there.
 *
 * @since 0.1.0
 */
import * as Chunk from "effect/Chunk"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Config from "./Config.ts"
import type { ErrorClass } from "./SinkError.ts"

/**
 * @since 0.1.0
 * @category models
 */
export interface Bounds extends Pick<Config.Relay, "retryBase" | "retryCap"> {}

/** The longest wait of what does not pass by itself, as a multiple of the longest wait of what does. */
const SLOW_CAP_FACTOR = 6

const exponential = (base: Duration.Duration, cap: Duration.Duration) =>
  Schedule.exponential(base).pipe(
    Schedule.union(Schedule.spaced(cap)),
    Schedule.jitteredWith({ min: 0.8, max: 1 }),
    // Timers take whole milliseconds.
    Schedule.modifyDelay((_, delay) => Duration.millis(Math.ceil(Duration.toMillis(delay)))),
    Schedule.delays
  )

/**
 * A schedule for each class, whose output is the wait that it makes.
 *
 * @since 0.1.0
 * @category policies
 */
export const schedules = ({
  retryBase,
  retryCap
}: Bounds): Record<ErrorClass, Schedule.Schedule<Duration.Duration>> => {
  const fast = exponential(retryBase, retryCap)
  const slow = exponential(retryCap, Duration.times(retryCap, SLOW_CAP_FACTOR))
  return { transient: fast, "in-doubt": fast, data: slow, configuration: slow, unknown: slow }
}

/** The cap is reached long before: further steps would only repeat it. */
const MAX_STEPS = 32

/**
 * The wait after a batch's `attempt`-th attempt. The schedule is stepped as often as the batch was tried, by whichever
 * relays.
 *
 * @since 0.1.0
 * @category policies
 */
export const delay = (bounds: Bounds, errorClass: ErrorClass, attempt: number): Effect.Effect<Duration.Duration> =>
  Effect.flatMap(Clock.currentTimeMillis, (now) =>
    Schedule.run(
      schedules(bounds)[errorClass],
      now,
      Chunk.makeBy(Math.min(attempt, MAX_STEPS), () => undefined)
    )
  ).pipe(
    Effect.map((waits) => Chunk.last(waits).pipe((last) => (last._tag === "Some" ? last.value : bounds.retryBase)))
  )
