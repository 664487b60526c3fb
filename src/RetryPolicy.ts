/**
 * How long to wait before a batch is tried again, by class of error.
 *
 * Waits are exponential from `retryBase` to `retryCap`, with jitter so that relays which failed together do not come
 * back together, and go on without end: no event is given up because a server was down. What somebody must put right
 * starts where the transient ends.
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

/** How much longer than a transient failure's the longest wait of the others is. */
const SLOWLY = 6

const exponential = (base: Duration.Duration, cap: Duration.Duration) =>
  Schedule.exponential(base).pipe(
    Schedule.union(Schedule.spaced(cap)),
    Schedule.jitteredWith({ min: 0.8, max: 1 }),
    // Whole milliseconds, which is what timers know.
    Schedule.modifyDelay((_, delay) => Duration.millis(Math.ceil(Duration.toMillis(delay)))),
    Schedule.delays
  )

/**
 * The schedules, each of which puts out the waits it makes.
 *
 * @since 0.1.0
 * @category policies
 */
export const schedules = ({
  retryBase,
  retryCap
}: Bounds): Record<ErrorClass, Schedule.Schedule<Duration.Duration>> => {
  const soon = exponential(retryBase, retryCap)
  const slowly = exponential(retryCap, Duration.times(retryCap, SLOWLY))
  return { transient: soon, "in-doubt": soon, data: slowly, configuration: slowly, unknown: slowly }
}

/** Further steps would only repeat the cap. */
const MOST_STEPS = 32

/**
 * The wait after a batch's `attempt`-th attempt. The schedule is stepped as often as the batch was tried, whichever
 * relays tried it.
 *
 * @since 0.1.0
 * @category policies
 */
export const delay = (bounds: Bounds, errorClass: ErrorClass, attempt: number): Effect.Effect<Duration.Duration> =>
  Effect.flatMap(Clock.currentTimeMillis, (now) =>
    Schedule.run(
      schedules(bounds)[errorClass],
      now,
      Chunk.makeBy(Math.min(attempt, MOST_STEPS), () => undefined)
    )
  ).pipe(
    Effect.map((waits) => Chunk.last(waits).pipe((last) => (last._tag === "Some" ? last.value : bounds.retryBase)))
  )
