/**
 * How many requests use a resource at a time, how many more wait for it, and for how long.
 *
 * Whoever asks when too many wait already is told to come back. A request that gives up, or whose client has gone, leaves
 * the queue and is never begun.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import type { Problem } from "./Problem.ts"
import * as Problems from "./Problems.ts"

/** A console asks a handful of questions at a time, so these are a dozen operators. */
const MAX_WAITING = 50

/** Less than a client's patience: the console gives up after 30 seconds. */
const MAX_WAIT = "10 seconds"

export type InTurn = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | Problem, R>

export const make = (atATime: number): InTurn => {
  /** In the order in which they came. */
  const waiting = new Set<Deferred.Deferred<void>>()
  let used = 0

  const join = Effect.suspend(() => {
    const turn = Deferred.unsafeMake<void>(FiberId.none)
    if (used < atATime) {
      used++
      Deferred.unsafeDone(turn, Effect.void)
    } else {
      if (waiting.size >= MAX_WAITING) return Effect.fail(Problems.overloaded)
      waiting.add(turn)
    }
    return Effect.succeed(turn)
  })

  /** One that still waits has nothing to hand on. */
  const leave = (turn: Deferred.Deferred<void>) =>
    Effect.sync(() => {
      if (waiting.delete(turn)) return
      const [next] = waiting
      if (next === undefined) used--
      else {
        waiting.delete(next)
        Deferred.unsafeDone(next, Effect.void)
      }
    })

  return (effect) =>
    Effect.acquireUseRelease(
      join,
      (turn) =>
        Deferred.await(turn).pipe(
          Effect.timeoutFail({ duration: MAX_WAIT, onTimeout: () => Problems.overloaded }),
          Effect.zipRight(effect)
        ),
      leave
    )
}
