/** Help comes with the colours of a terminal. Whatever else it is written to gets it without. */
import { stripVTControlCharacters } from "node:util"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"

type Print = Console.Console["log"]

const stripped =
  (print: Print): Print =>
  (...parts) =>
    print(...parts.map((part) => (typeof part === "string" ? stripVTControlCharacters(part) : part)))

export const withPlainText = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Console.consoleWith((console) =>
    Effect.withConsole(effect, {
      ...console,
      ...(!process.stdout.isTTY && { log: stripped(console.log) }),
      ...(!process.stderr.isTTY && { error: stripped(console.error) })
    })
  )
