/**
 * The account that a server runs under where it refuses to run as root: `postgres` if there is one, otherwise `nobody`.
 * No account is ever created.
 *
 * @since 0.1.0
 */
import { spawn } from "node:child_process"
import { readFile } from "node:fs/promises"
import * as Effect from "effect/Effect"

/**
 * @since 0.1.0
 * @category models
 */
export interface Account {
  readonly name: string
  readonly uid: number
  readonly gid: number
}

/**
 * The account to run a server under, or `undefined` for this process's own. Fails when root finds none.
 *
 * @since 0.1.0
 * @category constructors
 */
export const find: Effect.Effect<Account | undefined, string> = Effect.gen(function* () {
  if (process.getuid?.() !== 0) return undefined
  const passwd = yield* Effect.tryPromise({ try: () => readFile("/etc/passwd", "utf8"), catch: String })
  const accounts = passwd.split("\n").map((line) => line.split(":"))
  for (const wanted of ["postgres", "nobody"]) {
    const [name, , uid, gid] = accounts.find(([name]) => name === wanted) ?? []
    if (name && uid && gid) return { name, uid: Number(uid), gid: Number(gid) }
  }
  return yield* Effect.fail("it cannot run as root, and there is no user `postgres` or `nobody` to run it as")
})

/**
 * Runs a program to its end. Fails with what it has written.
 *
 * @since 0.1.0
 * @category utilities
 */
export const run = (
  account: Account | undefined,
  command: string,
  args: ReadonlyArray<string>
): Effect.Effect<void, string> =>
  Effect.async((resume) => {
    // This process's own folder may be closed to the account.
    const options = { cwd: "/", ...(account && { uid: account.uid, gid: account.gid }) }
    const child = spawn(command, args, options)
    const output: Array<string> = []
    child.stdout.on("data", (chunk) => output.push(String(chunk)))
    child.stderr.on("data", (chunk) => output.push(String(chunk)))
    child.once("error", (error) => resume(Effect.fail(error.message)))
    child.once("close", (code) => resume(code === 0 ? Effect.void : Effect.fail(output.join("").trim())))
    child.stdin.end()
    // Its own children hold its output open, so this waits for them too.
    return Effect.async<void>((resume) => {
      child.once("close", () => resume(Effect.void))
      child.kill("SIGKILL")
    })
  })

/**
 * Whether an account can enter a folder; some folder above it may be closed to others.
 *
 * @since 0.1.0
 * @category utilities
 */
export const canEnter = (account: Account, directory: string): Effect.Effect<boolean> =>
  Effect.isSuccess(run(account, "/bin/sh", ["-c", 'cd -- "$1"', "sh", directory]))
