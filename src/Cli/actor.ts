/** Who runs a command, for the audit trail: `ada@laptop`. */
import { hostname, userInfo } from "node:os"
import * as Effect from "effect/Effect"
import { visible } from "../internal/text.ts"
import { Actor } from "../schema/audit.ts"

/** A container may run under a number that nobody gave a name. */
const user: Effect.Effect<string> = Effect.orElseSucceed(
  Effect.try(() => userInfo().username),
  () => String(process.getuid?.() ?? "unknown")
)

/** A name may have characters that are not printed. */
export const actor: Effect.Effect<Actor> = Effect.map(user, (name) =>
  Actor.make(visible(`${name}@${hostname()}`).slice(0, 255))
)
