/** What goes wrong in a benchmark. */
import { Effect, Schema } from "effect"

/** A run did not end as it must, so its time means nothing. */
export class Flawed extends Schema.TaggedError<Flawed>()("Flawed", { run: Schema.String, what: Schema.String }) {
  override get message() {
    return `${this.run}: ${this.what}`
  }
}

/** Whatever went wrong as an Error, which is what a benchmark reports. */
export const orError = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, Error, R> =>
  Effect.mapError(effect, (error) => (error instanceof Error ? error : new Error(String(error), { cause: error })))
