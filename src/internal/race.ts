/** A race after which nothing of it still runs. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"

/**
 * Like `Effect.raceFirst`, except that it waits for both racers to end also when it is interrupted itself. `raceFirst` of
 * Effect 3.22 does not: the finalizers around it run while the racers do, so a connection pool is closed under them.
 *
 * The racers are daemons and not children of the fiber. Children would be interrupted twice, by their parent and by the
 * race, and the second time breaks off what the first began: the cancelling of a statement by sql-pg, without which its
 * connection stays busy.
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
