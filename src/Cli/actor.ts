/** Who runs a command, for the audit trail: `ada@laptop`. */
import { hostname, userInfo } from "node:os"
import * as Effect from "effect/Effect"

/** A container may run under a number that nobody gave a name. */
const user: Effect.Effect<string> = Effect.orElseSucceed(
  Effect.try(() => userInfo().username),
  () => String(process.getuid?.() ?? "unknown")
)

export const actor: Effect.Effect<string> = Effect.map(user, (name) => `${name}@${hostname()}`)
