/** Racing without leftovers. */
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"

/**
 * Like `Effect.raceFirst`, except that it also waits for both to have ended when it is interrupted itself: there Effect
 * 3.22 runs the finalizers around the race while the racers still run, and a connection pool that is closed meanwhile
 * keeps a statement's cancellation waiting for its time-out.
 *
 * @internal
 */
export const raceFirst = <A, E, R, B, E2, R2>(
  one: Effect.Effect<A, E, R>,
  other: Effect.Effect<B, E2, R2>
): Effect.Effect<A | B, E | E2, R | R2> => {
  const racers: ReadonlyArray<Effect.Effect<Exit.Exit<A | B, E | E2>, never, R | R2>> = [
    Effect.exit(one),
    Effect.exit(other)
  ]
  return Effect.flatten(Effect.raceAll(racers))
}
