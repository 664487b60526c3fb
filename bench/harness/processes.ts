/** Programs in processes of their own, and what processes cost, as Linux counts it. */
import { type ChildProcess, spawn } from "node:child_process"
import { readFileSync } from "node:fs"
import { createRequire } from "node:module"
import { fileURLToPath, pathToFileURL } from "node:url"
import { Deferred, Effect } from "effect"
import { Flawed } from "./Flawed.ts"

export interface Program {
  readonly pid: number
  /** Tells the waiting program to begin. */
  readonly go: Effect.Effect<void>
  /** Its standard output, once it has ended with 0. */
  readonly finished: Effect.Effect<string, Flawed>
}

interface Options {
  readonly name: string
  readonly args: ReadonlyArray<string>
  readonly variables: Readonly<Record<string, string>>
  /** What it writes to standard output or standard error once it is connected. */
  readonly readyWhen: string
}

/** Node runs it, and it ends when the scope closes. Succeeds when the program is ready. */
export const start = ({ args, name, readyWhen, variables }: Options) =>
  Effect.gen(function* () {
    const ready = yield* Deferred.make<void, Flawed>()
    const finished = yield* Deferred.make<string, Flawed>()
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        // Not this process' environment: OTEL_… or OUTBOX_… of the shell would change what is measured.
        spawn(process.execPath, args, {
          env: { PATH: process.env.PATH, ...variables },
          stdio: ["pipe", "pipe", "pipe"],
          // Out of the terminal's reach, so that Ctrl-C ends it once, by this scope.
          detached: true
        })
      ),
      stop
    )
    const written = { out: "", all: "" }
    const hear = (stream: "out" | "error") => (chunk: unknown) => {
      if (stream === "out") written.out += String(chunk)
      written.all += String(chunk)
      if (written.all.includes(readyWhen)) Deferred.unsafeDone(ready, Effect.void)
    }
    child.stdout.on("data", hear("out"))
    child.stderr.on("data", hear("error"))
    // It may have ended before it was told to begin.
    child.stdin.on("error", () => {})
    const end = (reason: string) => {
      const flawed = new Flawed({ run: name, what: `${reason}\n${written.all.slice(-2_000)}` })
      Deferred.unsafeDone(ready, flawed)
      Deferred.unsafeDone(finished, flawed)
    }
    child.once("error", (error) => end(error.message))
    child.once("close", (code, signal) => {
      if (code !== 0) return end(`ended with ${signal ?? code}`)
      Deferred.unsafeDone(finished, Effect.succeed(written.out))
      end("ended before it was ready")
    })
    yield* Deferred.await(ready).pipe(
      Effect.timeoutFail({
        duration: "2 minutes",
        onTimeout: () => new Flawed({ run: name, what: `not ready in time\n${written.all.slice(-2_000)}` })
      })
    )
    const program: Program = {
      pid: child.pid ?? 0,
      go: Effect.sync(() => child.stdin.write("go\n")),
      finished: Deferred.await(finished)
    }
    return program
  })

const stop = (child: ChildProcess) =>
  Effect.async<void>((resume) => {
    if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
    child.once("exit", () => resume(Effect.void))
    child.kill("SIGTERM")
  }).pipe(Effect.timeoutOption("15 seconds"), Effect.zipRight(Effect.sync(() => child.kill("SIGKILL"))))

const loader = pathToFileURL(createRequire(import.meta.url).resolve("tsx")).href

/** A TypeScript program of this folder, by its address. It says `ready` and waits for a line before it begins. */
export const startScript = (name: string, script: URL, variables: Readonly<Record<string, string>>) =>
  start({ name, args: ["--import", loader, fileURLToPath(script)], variables, readyWhen: "ready\n" })

/** What users run: the build, without a loader. */
export const startRelay = (args: ReadonlyArray<string>, variables: Readonly<Record<string, string>>) =>
  start({
    name: "clickhouse-outbox relay",
    args: [fileURLToPath(new URL("../../dist/main.js", import.meta.url)), "relay", ...args],
    variables: { OUTBOX_HTTP_PORT: "off", ...variables },
    readyWhen: "The relay has started"
  })

const readProc = (pid: number, file: string): string => {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "utf8")
  } catch {
    return ""
  }
}

const TICKS_PER_SECOND = 100

/** Seconds of CPU of a process and of its children that have ended. NaN where it cannot be known. */
const cpuOf = (pid: number): { readonly own: number; readonly ended: number } => {
  // Counted after the program's name, which may contain anything: utime is 14 in proc(5).
  const fields = readProc(pid, "stat").split(") ").at(-1)?.split(" ") ?? []
  const seconds = (first: number) => (Number(fields[first]) + Number(fields[first + 1])) / TICKS_PER_SECOND
  return { own: seconds(11), ended: seconds(13) }
}

/** Of a process alone. */
export const cpuSeconds = (pid: number): number => cpuOf(pid).own

/** Of a server and its children, running or ended. Only grows. */
export const cpuSecondsOfTree = (pid: number): number => {
  const { ended, own } = cpuOf(pid)
  const children = readProc(pid, `task/${pid}/children`).split(" ").filter(Boolean).map(Number)
  // A child that ends just now is in its parent's time at the next look.
  return children
    .map(cpuSeconds)
    .filter(Number.isFinite)
    .reduce((sum, seconds) => sum + seconds, own + ended)
}

/** The largest resident size of a process so far, in bytes. */
export const peakMemory = (pid: number): number =>
  Number(/VmHWM:\s+(\d+) kB/.exec(readProc(pid, "status"))?.[1] ?? Number.NaN) * 1_024
