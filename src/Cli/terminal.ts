/** Asking the operator, where there is one. */
import * as Prompt from "@effect/cli/Prompt"
import * as Effect from "effect/Effect"

/** Whether somebody reads and answers. */
export const isInteractive = (): boolean => Boolean(process.stdin.isTTY && process.stdout.isTTY)

/** Ctrl-C means no. */
export const confirm = (message: string, initial: boolean) =>
  Effect.catchTag(Prompt.confirm({ message, initial }), "QuitException", () => Effect.succeed(false))
