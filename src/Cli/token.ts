/** `clickhouse-outbox token` */
import { createHash, randomBytes } from "node:crypto"
import * as Command from "@effect/cli/Command"
import * as Options from "@effect/cli/Options"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { callerName, role } from "./options.ts"

/** So many that nobody finds one by trying, which is why the server needs no more of it than its SHA-256. */
const BYTES = 32

/** By it a scanner for secrets knows a token that was committed somewhere. */
const PREFIX = "outbox_"

export const token = Command.make(
  "token",
  {
    name: callerName,
    role: role.pipe(
      Options.withDefault("reader" as const),
      Options.withDescription("What it lets somebody do: reader, who changes nothing, or operator.")
    )
  },
  ({ name, role }) =>
    Effect.gen(function* () {
      const token = yield* Effect.sync(() => PREFIX + randomBytes(BYTES).toString("base64url"))
      const sha256 = createHash("sha256").update(token).digest("hex")
      yield* Console.log(
        [
          `The token, which is shown this once. Give it to ${name}:`,
          "",
          token,
          "",
          "The line for OUTBOX_HTTP_TOKENS, or for the file that OUTBOX_HTTP_TOKENS_FILE names:",
          "",
          `${name} ${role} ${sha256}`
        ].join("\n")
      )
    })
).pipe(
  Command.withDescription("Makes a token with which somebody uses the operator API under a name. Asks no database.")
)
