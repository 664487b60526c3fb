/**
 * A database server that runs for as long as a scope is open, on 127.0.0.1.
 *
 * - A server that is returned answers, and is certainly the one that was started.
 * - No process remains, however the program ends, even by SIGKILL.
 * - What was acknowledged survives `kill`, `restart`, and the end of the program if the data directory is kept.
 *
 * @since 0.1.0
 */
import { readFileSync } from "node:fs"
import { createServer } from "node:net"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as ScopedRef from "effect/ScopedRef"
import * as ServerProcess from "./ServerProcess.ts"

/**
 * A server did not start.
 *
 * @since 0.1.0
 * @category errors
 */
export class EmbeddedServerError extends Schema.TaggedError<EmbeddedServerError>()("EmbeddedServerError", {
  server: Schema.Literal("Postgres", "ClickHouse"),
  /**
   * - `Unavailable`: the npm package with the binaries is missing, broken, or has none for this platform
   * - `DataDirectory`: the data directory cannot be made or used
   * - `PortInUse`: another program listens on the port
   * - `Exited`: the server ended while starting; its log says why
   * - `TimedOut`: the server neither answered nor ended in time
   */
  reason: Schema.Literal("Unavailable", "DataDirectory", "PortInUse", "Exited", "TimedOut"),
  detail: Schema.String,
  /** The last lines that the server has logged, if it got that far. */
  log: Schema.String
}) {
  override get message() {
    return `${this.server} did not start: ${this.detail}${this.log && `\n\n${this.log}\n`}`
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
  /** Waits until the server that runs now has ended, in whatever way. */
  readonly ended: Effect.Effect<void>
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
  readonly script: string
  readonly args: (port: number) => ReadonlyArray<string>
  readonly url: (port: number) => string
  readonly log: string
  /** A free port where none is given. */
  readonly port: number | undefined
}

/**
 * Starts a server, and stops it when the scope closes.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (options: Options): Effect.Effect<EmbeddedServer, EmbeddedServerError, Scope.Scope> =>
  Effect.gen(function* () {
    const port = options.port ?? (yield* freePort)
    const start = startOn(options, port)
    const running = yield* ScopedRef.fromAcquire(start)
    return {
      url: options.url(port),
      port,
      pid: Effect.map(ScopedRef.get(running), ({ pid }) => pid),
      kill: Effect.flatMap(ScopedRef.get(running), ({ kill }) => kill),
      ended: Effect.flatMap(ScopedRef.get(running), ({ ended }) => ended),
      restart: ScopedRef.set(running, start)
    }
  }).pipe(
    // Somebody else took the free port first.
    Effect.retry({ times: 3, while: (error) => options.port === undefined && error.reason === "PortInUse" })
  )

const startOn = (
  { server, script, args, log: file }: Options,
  port: number
): Effect.Effect<ServerProcess.ServerProcess, EmbeddedServerError, Scope.Scope> =>
  Effect.suspend(() => {
    const before = read(file).length
    return ServerProcess.make({ script, args: args(port), log: file }).pipe(
      Effect.mapError(({ reason, detail }) => {
        const log = lastLines(read(file).subarray(before).toString())
        return log.includes("Address already in use")
          ? new EmbeddedServerError({
              server,
              reason: "PortInUse",
              detail: `another program listens on port ${port} of 127.0.0.1; choose another port`,
              log
            })
          : new EmbeddedServerError({ server, reason, detail: `${detail}; its log is ${file}`, log })
      })
    )
  })

const read = (file: string): Buffer => {
  try {
    return readFileSync(file)
  } catch {
    return Buffer.of()
  }
}

/** But for stack traces without names. */
const lastLines = (log: string): string => {
  const lines = log.split("\n")
  return lines
    .filter((line) => line !== "" && !/^\d+\. .* @ 0x/.test(line))
    .slice(-20)
    .join("\n")
}

/**
 * A port below the range that systems take for outgoing connections: a client that keeps trying to reach a killed
 * server on a port of that range can end up connected to itself, and the server could not come back.
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
