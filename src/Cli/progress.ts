/** A line on the terminal that says how far it is, and is gone in the end. Nothing unless standard error is one. */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"

/** Back to the start of the line, and erase it. */
const CLEAR = "\r\x1b[K"

const write = (text: string) => Effect.sync(() => process.stderr.write(text))

export const withProgress =
  (text: Effect.Effect<string>) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> => {
    if (!process.stderr.isTTY) return effect
    const show = Effect.flatMap(text, (text) => write(`${CLEAR}${text}`))
    return effect.pipe(
      Effect.raceFirst(Effect.zipRight(Effect.repeat(show, Schedule.spaced("100 millis")), Effect.never)),
      Effect.ensuring(write(CLEAR))
    )
  }
