/** Waiting for a state, with a bound. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"

/** However slow the machine is, it is there by then; what took this long is not coming. */
export const BOUND = "5 minutes"

/** Looks until what it sees is so, and returns that. Dies of what it saw last if it takes too long. */
export const until = <A, E, R>(
  look: Effect.Effect<A, E, R>,
  isSo: (seen: A) => boolean,
  within: Duration.DurationInput = BOUND
): Effect.Effect<A, E, R> =>
  look.pipe(
    Effect.repeat({
      until: isSo,
      schedule: Schedule.spaced("20 millis").pipe(Schedule.upTo(within), Schedule.zipRight(Schedule.identity<A>()))
    }),
    Effect.tap((seen) =>
      isSo(seen)
        ? Effect.void
        : Effect.dieMessage(`Not so within ${Duration.format(Duration.decode(within))}: ${JSON.stringify(seen)}`)
    )
  )
