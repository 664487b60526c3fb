/** The operator at the terminal: who it is, what they answer, and what they write in their editor. */
import { spawn } from "node:child_process"
import { hostname, userInfo } from "node:os"
import { join } from "node:path"
import * as Prompt from "@effect/cli/Prompt"
import type { PlatformError } from "@effect/platform/Error"
import * as FileSystem from "@effect/platform/FileSystem"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { visible } from "../internal/text.ts"
import { Actor } from "../schema/audit.ts"

/** A container may run under a number that nobody gave a name. */
const user: Effect.Effect<string> = Effect.orElseSucceed(
  Effect.try(() => userInfo().username),
  () => String(process.getuid?.() ?? "unknown")
)

/** Who runs a command, for the audit trail: `ada@laptop`. A name may have characters that are not printed. */
export const actor: Effect.Effect<Actor> = Effect.map(user, (name) =>
  Actor.make(visible(`${name}@${hostname()}`).slice(0, 255))
)

/** Whether somebody reads and answers. */
export const isInteractive = (): boolean => Boolean(process.stdin.isTTY && process.stdout.isTTY)

/** Ctrl-C means no. */
export const confirm = (message: string, initial: boolean) =>
  Effect.catchTag(Prompt.confirm({ message, initial }), "QuitException", () => Effect.succeed(false))

export class EditorFailed extends Schema.TaggedError<EditorFailed>()("EditorFailed", { reason: Schema.String }) {
  override get message(): string {
    return `${this.reason}. Nothing was changed`
  }
}

export class NotText extends Schema.TaggedError<NotText>()("NotText", {}) {
  override get message(): string {
    return "What you wrote is not valid UTF-8. Nothing was changed"
  }
}

const NAMED = ["VISUAL", "EDITOR"] as const

/** The operator's editor, perhaps with arguments, as in `code --wait`. */
const command = Effect.gen(function* () {
  for (const name of NAMED) {
    const editor = yield* Effect.orDie(Config.option(Config.nonEmptyString(name)))
    if (Option.isSome(editor)) return editor.value
  }
  if (isInteractive()) return "vi"
  return yield* new EditorFailed({ reason: "There is no terminal to edit on: say what to change with options" })
})

export interface Draft {
  readonly path: string
  /** Lets the operator edit, and returns what the text is then. */
  readonly edit: Effect.Effect<string, EditorFailed | NotText | PlatformError>
  /** Leaves the file where it is. */
  readonly keep: Effect.Effect<void>
}

/** A file that only this user can read, and that is gone when the scope closes, however it closes. */
export const draft = ({ name, text }: { readonly name: string; readonly text: string }) =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const editor = yield* command
    let kept = false
    const directory = yield* Effect.acquireRelease(fs.makeTempDirectory({ prefix: "clickhouse-outbox-" }), (path) =>
      kept ? Effect.void : Effect.orDie(fs.remove(path, { recursive: true }))
    )
    const path = join(directory, name)
    yield* fs.writeFileString(path, text, { mode: 0o600 })
    const draft: Draft = {
      path,
      edit: Effect.zipRight(open({ editor, path }), Effect.flatMap(fs.readFile(path), decode)),
      keep: Effect.sync(() => {
        kept = true
      })
    }
    return draft
  })

/**
 * Through a shell, which knows how arguments are quoted and then becomes the editor, so that no editor outlives its
 * command. In the group of the command: one of its own would lose the terminal.
 */
const open = ({
  editor,
  path
}: {
  readonly editor: string
  readonly path: string
}): Effect.Effect<void, EditorFailed> =>
  Effect.async<void, EditorFailed>((resume) => {
    const failed = (how: string) => resume(new EditorFailed({ reason: `The editor "${editor}" ${how}` }))
    const child = spawn("sh", ["-c", `exec ${editor} "$1"`, "sh", path], { stdio: "inherit" })
    child.once("error", (error) => failed(`did not start: ${error.message}`))
    const ended = new Promise<void>((resolve) => child.once("close", () => resolve()))
    child.once("close", (code, signal) => (code === 0 ? resume(Effect.void) : failed(`ended with ${code ?? signal}`)))
    return Effect.zipRight(
      Effect.sync(() => child.kill()),
      Effect.promise(() => ended)
    )
  })

const utf8 = new TextDecoder("utf-8", { fatal: true })

const decode = (bytes: Uint8Array): Effect.Effect<string, NotText> =>
  Effect.try({ try: () => utf8.decode(bytes), catch: () => new NotText() })
