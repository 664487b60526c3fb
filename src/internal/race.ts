/** Racing without leftovers. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"

/**
 * Like `Effect.raceFirst`, except that it also waits for both to have ended when it is interrupted itself. There Effect
 * 3.22 runs the finalizers around the race while the racers still run: a connection pool is closed under them.
 *
 * They are no children of the fiber, because these are told to end twice, by their parent and by the race. The second
 * time breaks off what the first began: that sql-pg cancels the statement, without which its connection stays busy.
 *
 * @internal
 */
export const raceFirst = <A, E, R, B, E2, R2>(
  one: Effect.Effect<A, E, R>,
  other: Effect.Effect<B, E2, R2>
): Effect.Effect<A | B, E | E2, R | R2> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function* () {
      const first = yield* Deferred.make<A | B, E | E2>()
      const racers: ReadonlyArray<Effect.Effect<A | B, E | E2, R | R2>> = [one, other]
      const fibers = yield* Effect.forEach(racers, (racer) =>
        Effect.forkDaemon(Effect.intoDeferred(restore(racer), first))
      )
      return yield* Effect.ensuring(restore(Deferred.await(first)), Fiber.interruptAll(fibers))
    })
  )
