/** Time for measuring how long something takes or is ago. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

/**
 * Milliseconds of a clock that only moves forward, because nobody can set it. Meaningless outside this process.
 *
 * @internal
 */
export const monotonicMillis: Effect.Effect<number> = Effect.map(Clock.currentTimeNanos, (nanos) =>
  Number(nanos / 1_000_000n)
)
