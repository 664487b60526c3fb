/**
 * A database server in a child process, for as long as a scope is open.
 *
 * - A server that is returned answers: on 127.0.0.1 only, and it is certainly the one that was started.
 * - No process remains, however the program ends, even by SIGKILL: each child ends when its standard input closes.
 * - Ctrl-C reaches the program alone, never the server, so that the program can drain before its scope closes.
 * - Stopping is orderly and bounded: what does not stop in time is killed.
 *
 * A child script is given its arguments, keeps standard input open, writes the server's process id as its only line to
 * standard output once the server accepts connections, and whatever there is to log to standard error.
 *
 * @since 0.1.0
 */
import { type ChildProcess, spawn } from "node:child_process"
import { closeSync, mkdirSync, openSync, readFileSync, statSync } from "node:fs"
import { createRequire } from "node:module"
import { createServer } from "node:net"
import { dirname, extname } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as ScopedRef from "effect/ScopedRef"

/**
 * A server did not start.
 *
 * @since 0.1.0
 * @category errors
 */
export class EmbeddedServerError extends Schema.TaggedError<EmbeddedServerError>()("EmbeddedServerError", {
  server: Schema.Literal("Postgres", "ClickHouse"),
  /**
   * - `Unavailable`: the npm package with the binaries is missing, broken, or made for another platform
   * - `DataDirectory`: the data directory cannot be created or used
   * - `PortInUse`: another program listens on the port
   * - `Exited`: the server ended while starting; `log` says why
   * - `TimedOut`: the server neither answered nor ended in time
   */
  reason: Schema.Literal("Unavailable", "DataDirectory", "PortInUse", "Exited", "TimedOut"),
  detail: Schema.String,
  /** The last lines that the server has logged, if it got that far. */
  log: Schema.String
}) {
  override get message() {
    return `${this.server} did not start: ${this.detail}${this.log === "" ? "" : `\n\n${this.log}\n`}`
  }
}

/**
 * A running server.
 *
 * @since 0.1.0
 * @category models
 */
export interface EmbeddedServer {
  /** How to connect. It stays the same across restarts. */
  readonly url: string
  readonly port: number
  /** The process id of the server itself; another one after a restart. */
  readonly pid: Effect.Effect<number>
  /** SIGKILL to the server and its own children, as a crash would end them. Returns when they are gone. */
  readonly kill: Effect.Effect<void>
  /** Stops the server, unless it is gone already, and starts it again on the same port and data. */
  readonly restart: Effect.Effect<void, EmbeddedServerError>
}

/**
 * What to run.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  readonly server: EmbeddedServerError["server"]
  /** A script beside this one, without its extension. */
  readonly script: string
  readonly args: (port: number) => ReadonlyArray<string>
  readonly url: (port: number) => string
  /** The file that the server logs to, appended to. */
  readonly log: string
  /** A free port where none is given. */
  readonly port: number | undefined
}

interface Running {
  readonly child: ChildProcess
  readonly pid: number
  readonly exited: Deferred.Deferred<void>
}

const startTimeout = Duration.seconds(60)
const stopTimeout = Duration.seconds(15)

/**
 * Starts a server, and stops it when the scope closes.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (options: Options): Effect.Effect<EmbeddedServer, EmbeddedServerError, Scope.Scope> =>
  Effect.gen(function* () {
    const port = options.port ?? (yield* freePort)
    const start = launch(options, port)
    const running = yield* ScopedRef.fromAcquire(start)
    return {
      url: options.url(port),
      port,
      pid: Effect.map(ScopedRef.get(running), ({ pid }) => pid),
      kill: Effect.flatMap(ScopedRef.get(running), kill),
      restart: ScopedRef.set(running, start)
    }
  }).pipe(
    // Somebody else took the free port first.
    Effect.retry({ times: 3, while: (error) => options.port === undefined && error.reason === "PortInUse" })
  )

const launch = (options: Options, port: number): Effect.Effect<Running, EmbeddedServerError, Scope.Scope> =>
  Effect.gen(function* () {
    const ready = yield* Deferred.make<number, string>()
    const exited = yield* Deferred.make<void>()
    const logged = statSync(options.log, { throwIfNoEntry: false })?.size ?? 0
    const failed = (reason: EmbeddedServerError["reason"], detail: string) =>
      new EmbeddedServerError({ server: options.server, reason, detail, log: tail(options.log, logged) })

    const child = yield* Effect.acquireRelease(
      Effect.try({
        try: () => spawnChild(options, port),
        catch: (cause) => failed("DataDirectory", `cannot log to ${options.log} (${cause})`)
      }),
      (child) => stop(child, exited)
    )
    const ended = (how: string) => {
      Deferred.unsafeDone(ready, Effect.fail(how))
      Deferred.unsafeDone(exited, Effect.void)
    }
    child.once("error", (error) => ended(`could not run (${error.message})`))
    child.once("exit", (code, signal) => ended(signal ? `was ended by ${signal}` : `ended with exit code ${code}`))
    child.stdout?.once("data", (line) => Deferred.unsafeDone(ready, Effect.succeed(Number.parseInt(String(line), 10))))

    // ScopedRef acquires without interruption; a start must be interruptible, not least by its own time limit.
    const pid = yield* Effect.interruptible(Deferred.await(ready)).pipe(
      Effect.mapError((how) => failed("Exited", `it ${how}; its log is ${options.log}`)),
      Effect.mapError((error) =>
        error.log.includes("Address already in use")
          ? failed("PortInUse", `another program listens on port ${port} of 127.0.0.1; choose another port`)
          : error
      ),
      Effect.timeoutFail({
        duration: startTimeout,
        onTimeout: () =>
          failed("TimedOut", `no answer after ${Duration.format(startTimeout)}; its log is ${options.log}`)
      }),
      Effect.interruptible
    )
    return { child, pid, exited }
  }).pipe(inRealTime)

const spawnChild = (options: Options, port: number): ChildProcess => {
  const here = fileURLToPath(import.meta.url)
  const extension = extname(here)
  // A checkout runs as TypeScript, a built package as JavaScript.
  const loader = extension === ".ts" ? ["--import", pathToFileURL(createRequire(here).resolve("tsx")).href] : []
  mkdirSync(dirname(options.log), { recursive: true })
  const log = openSync(options.log, "a")
  try {
    return spawn(
      process.execPath,
      [...loader, `${dirname(here)}/${options.script}${extension}`, ...options.args(port)],
      // A session of its own, out of reach of the terminal's Ctrl-C.
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
    Effect.tap(() => Effect.sync(() => child.kill("SIGKILL"))),
    inRealTime
  )

const kill = ({ child, pid, exited }: Running): Effect.Effect<void> =>
  Effect.gen(function* () {
    if (child.exitCode !== null || child.signalCode !== null) return
    const processes = [pid, ...childrenOf(pid)]
    for (const each of processes) signal(each, "SIGKILL")
    yield* Deferred.await(exited)
    yield* Effect.sync(() => processes.some(isRunning)).pipe(
      Effect.delay("5 millis"),
      Effect.repeat({ while: (some) => some })
    )
  }).pipe(Effect.timeoutOption(stopTimeout), Effect.asVoid, inRealTime)

const signal = (pid: number, name: NodeJS.Signals): void => {
  try {
    process.kill(pid, name)
  } catch {
    // It has ended by itself.
  }
}

/** Known on Linux only. Elsewhere Postgres' backends notice within moments that their server is gone. */
const childrenOf = (pid: number): ReadonlyArray<number> =>
  read(`/proc/${pid}/task/${pid}/children`).split(" ").filter(Boolean).map(Number)

/** False for a zombie, which holds nothing and may wait for its reaper for ever in a container. */
const isRunning = (pid: number): boolean => read(`/proc/${pid}/cmdline`) !== ""

const read = (file: string): string => {
  try {
    return readFileSync(file, "utf8")
  } catch {
    return ""
  }
}

/** The last lines since a position, but for stack traces without names. */
const tail = (file: string, from: number): string => {
  const lines = Buffer.from(read(file)).subarray(from).toString().split("\n")
  return lines
    .filter((line) => line !== "" && !/^\d+\. .* @ 0x/.test(line))
    .slice(-20)
    .join("\n")
}

/**
 * A port below the range that systems hand out for outgoing connections: a client that keeps trying to reach a killed
 * server on a port of that range ends up connected to itself, and the server cannot come back.
 */
const freePort: Effect.Effect<number> = Random.nextIntBetween(20_000, 32_000).pipe(
  Effect.tap((port) =>
    Effect.async<void, Error>((resume) => {
      const server = createServer()
      server.once("error", (error) => resume(Effect.fail(error)))
      server.listen(port, "127.0.0.1", () => server.close(() => resume(Effect.void)))
    })
  ),
  Effect.retry({ times: 100 }),
  Effect.orDie
)

/** Servers know no test clock. */
const inRealTime = Effect.withClock(Clock.make())
