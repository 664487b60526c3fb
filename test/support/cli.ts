/** The command line in a process of its own, as a user starts it. */
import { type ChildProcessByStdio, spawn } from "node:child_process"
import type { Readable, Writable } from "node:stream"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { inject } from "vitest"
import { Environment } from "./environment.ts"
import { until } from "./wait.ts"

export interface Ended {
  /** Null if a signal ended it. */
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** It did what it was asked, with nothing to remark. */
export const succeeded = (stdout: string): Ended => ({ code: 0, stdout, stderr: "" })

/** It could not, and said why: nothing else. */
export const failed = (stderr: string): Ended => ({ code: 1, stdout: "", stderr })

export interface Options {
  /** On top of the databases of this file; undefined takes a variable away. */
  readonly variables?: Readonly<Record<string, string | undefined>>
  /** Nothing unless set. */
  readonly stdin?: string | Uint8Array
  /** Arguments of Node itself. */
  readonly node?: ReadonlyArray<string>
}

export interface Process {
  readonly stdin: Writable
  readonly signal: (signal: NodeJS.Signals) => Effect.Effect<void>
  /** Waits for text on standard error. */
  readonly said: (text: string) => Effect.Effect<void>
  /** Where its operator API listens; waits until it does. */
  readonly url: Effect.Effect<string>
  readonly ended: Effect.Effect<Ended>
}

/** A Postgres that is not there: nobody listens on port 1. */
export const UNREACHABLE = "postgres://ada:hunter2@127.0.0.1:1/app"

const LISTENS = /The operator API listens on (http:[^\s",]+)/

const kill = (child: ChildProcessByStdio<Writable, Readable, Readable>, signal: NodeJS.Signals) =>
  Effect.sync(() => void child.kill(signal))

/** Starts a command, which is killed if it has not ended when the scope closes. Its standard input stays open. */
export const start = (args: ReadonlyArray<string>, options: Options = {}) =>
  Effect.gen(function* () {
    // Several relays may run at once, of this and of other tests.
    const env = { PATH: process.env.PATH, OUTBOX_HTTP_PORT: "off", ...(yield* Environment), ...options.variables }
    const ended = yield* Deferred.make<Ended>()
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        spawn(process.execPath, [...(options.node ?? []), inject("programs").cli, ...args], { env, stdio: "pipe" })
      ),
      (child) => Effect.zipRight(kill(child, "SIGKILL"), Deferred.await(ended))
    )
    let stdout = ""
    let stderr = ""
    child.stdout.setEncoding("utf8").on("data", (text) => {
      stdout += text
    })
    child.stderr.setEncoding("utf8").on("data", (text) => {
      stderr += text
    })
    // A command that ends early closes its input.
    child.stdin.on("error", () => {})
    child.once("close", (code) => Deferred.unsafeDone(ended, Effect.succeed({ code, stdout, stderr })))
    const said = (found: (seen: string) => boolean) =>
      until(
        Effect.sync(() => stderr),
        found
      )
    const started: Process = {
      stdin: child.stdin,
      signal: (signal) => kill(child, signal),
      said: (text) => Effect.asVoid(said((seen) => seen.includes(text))),
      url: Effect.map(
        said((seen) => LISTENS.test(seen)),
        (seen) => LISTENS.exec(seen)?.[1] ?? ""
      ),
      ended: Deferred.await(ended)
    }
    return started
  })

/** Runs a command to its end. */
export const run = (args: ReadonlyArray<string>, options: Options = {}): Effect.Effect<Ended, never, Environment> =>
  Effect.gen(function* () {
    const { ended, stdin } = yield* start(args, options)
    stdin.end(options.stdin)
    return yield* ended
  }).pipe(Effect.scoped)
