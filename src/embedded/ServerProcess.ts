/**
 * A script of this folder that runs a server, in a process of its own.
 *
 * - When this one is returned, the server accepts connections.
 * - It is asked to stop when its scope closes, and killed if it does not. It stops likewise when this process ends in
 *   whatever way, as its standard input is then closed.
 * - The terminal's Ctrl-C does not reach it, so that a program can drain before its scope closes.
 *
 * The script keeps standard input open until it is closed, writes the server's process id as its only line to standard
 * output once the server accepts connections, and whatever there is to log to standard error.
 *
 * @since 0.1.0
 */
import { type ChildProcess, spawn } from "node:child_process"
import { closeSync, openSync, readFileSync } from "node:fs"
import { createRequire } from "node:module"
import { dirname, extname, join } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/**
 * @since 0.1.0
 * @category errors
 */
class NotReady extends Data.TaggedError("NotReady")<{
  readonly reason: "DataDirectory" | "Exited" | "TimedOut"
  readonly detail: string
}> {}

/**
 * @since 0.1.0
 * @category models
 */
export interface ServerProcess {
  /** Of the server itself. */
  readonly pid: number
  /** SIGKILL to the server and its own children. Returns when they are gone. */
  readonly kill: Effect.Effect<void>
  /** Waits until it has ended, in whatever way. */
  readonly ended: Effect.Effect<void>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** A script beside this one, without its extension. */
  readonly script: string
  readonly args: ReadonlyArray<string>
  /** The file that it logs to, appended to. */
  readonly log: string
}

const startTimeout = Duration.seconds(60)
const stopTimeout = Duration.seconds(15)

/**
 * @since 0.1.0
 * @category constructors
 */
export const make = (options: Options): Effect.Effect<ServerProcess, NotReady, Scope.Scope> =>
  Effect.gen(function* () {
    const ready = yield* Deferred.make<number, NotReady>()
    const exited = yield* Deferred.make<void>()
    const child = yield* Effect.acquireRelease(
      Effect.try({
        try: () => start(options),
        catch: (cause) => new NotReady({ reason: "DataDirectory", detail: `it cannot log (${cause})` })
      }),
      (child) => stop(child, exited)
    )
    const ended = (detail: string) => {
      Deferred.unsafeDone(ready, new NotReady({ reason: "Exited", detail }))
      Deferred.unsafeDone(exited, Effect.void)
    }
    child.once("error", (error) => ended(`it cannot be run (${error.message})`))
    child.once("exit", (code, signal) => ended(signal ? `it was ended by ${signal}` : `it ended with code ${code}`))
    child.stdout?.once("data", (line) => Deferred.unsafeDone(ready, Effect.succeed(Number(line))))

    const pid = yield* Effect.timeoutFail(Deferred.await(ready), {
      duration: startTimeout,
      onTimeout: () => new NotReady({ reason: "TimedOut", detail: `no answer in ${Duration.format(startTimeout)}` })
      // Also within `ScopedRef`, which acquires without interruption: there would be no time limit.
    }).pipe(Effect.interruptible)
    return { pid, kill: kill(child, pid, exited), ended: Deferred.await(exited) }
  }).pipe(inRealTime)

const start = (options: Options): ChildProcess => {
  const here = fileURLToPath(import.meta.url)
  const extension = extname(here)
  // A checkout runs as TypeScript, a built package as JavaScript.
  const loader = extension === ".ts" ? ["--import", pathToFileURL(createRequire(here).resolve("tsx")).href] : []
  const log = openSync(options.log, "a")
  try {
    return spawn(
      process.execPath,
      [...loader, join(dirname(here), options.script + extension), ...options.args],
      // A session of its own, out of the terminal's reach.
      { detached: true, stdio: ["pipe", "pipe", log] }
    )
  } finally {
    closeSync(log)
  }
}

const stop = (child: ChildProcess, exited: Deferred.Deferred<void>): Effect.Effect<void> =>
  Effect.sync(() => child.stdin?.destroy()).pipe(
    Effect.zipRight(Effect.interruptible(Deferred.await(exited))),
    Effect.timeoutOption(stopTimeout),
    Effect.zipRight(Effect.sync(() => child.kill("SIGKILL"))),
    inRealTime
  )

const kill = (child: ChildProcess, pid: number, exited: Deferred.Deferred<void>): Effect.Effect<void> =>
  Effect.gen(function* () {
    if (child.exitCode !== null || child.signalCode !== null) return
    const processes = [pid, ...childrenOf(pid)]
    for (const each of processes) sigkill(each)
    yield* Deferred.await(exited)
    while (processes.some(isRunning)) yield* Effect.sleep("5 millis")
  }).pipe(Effect.timeoutOption(stopTimeout), inRealTime)

const sigkill = (pid: number): void => {
  try {
    process.kill(pid, "SIGKILL")
  } catch {
    // It has ended by itself.
  }
}

/** Known on Linux only. Elsewhere the backends of Postgres notice by themselves that their server is gone. */
const childrenOf = (pid: number): ReadonlyArray<number> =>
  read(`/proc/${pid}/task/${pid}/children`).split(" ").filter(Boolean).map(Number)

/** False for a zombie, which holds nothing, and in a container may wait for its reaper for ever. */
const isRunning = (pid: number): boolean => read(`/proc/${pid}/cmdline`) !== ""

const read = (file: string): string => {
  try {
    return readFileSync(file, "utf8")
  } catch {
    return ""
  }
}

/** Processes do not follow a test's clock. */
const inRealTime = Effect.withClock(Clock.make())
