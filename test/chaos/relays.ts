/** A relay in a process of its own, which reaches either database through a proxy of its own, and is started again. */
import { type ChildProcess, spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Proxy from "../support/proxy.ts"
import type { Server } from "./points.ts"
import { LEASE_MILLIS } from "./schedule.ts"

export interface Relay {
  readonly proxies: Readonly<Record<Server, Proxy.Proxy>>
  readonly signal: (signal: NodeJS.Signals) => void
  readonly hasStarted: () => boolean
  /** By an hour. False if it has not started yet. */
  readonly setClockForward: () => boolean
  /** What its last processes have logged, oldest first. */
  readonly log: () => ReadonlyArray<string>
}

/** A relay that ended although nobody had killed it. */
export interface Ended {
  readonly how: string
}

const KEPT_LINES = 400

const VARIABLES = {
  OUTBOX_LINGER: "30 millis",
  OUTBOX_LEASE: `${LEASE_MILLIS} millis`,
  OUTBOX_RETRY_BASE: "20 millis",
  OUTBOX_RETRY_CAP: "200 millis",
  OUTBOX_BATCH_EVENTS: "500",
  OUTBOX_REFUSED_EVENTS_LIMIT: "5",
  // Slots turn so often that every round sees some emptied.
  OUTBOX_EVENT_RETENTION: "2 seconds",
  OUTBOX_HTTP_PORT: "off",
  CLICKHOUSE_REQUEST_TIMEOUT: "2 seconds",
  DATABASE_CONNECT_TIMEOUT: "1 second",
  LOG_FORMAT: "json"
}

const CLOCK = fileURLToPath(new URL("./shiftClock.mjs", import.meta.url))

interface Options {
  /** The file that is `clickhouse-outbox`. */
  readonly program: string
  readonly postgresUrl: string
  readonly clickhouseUrl: string
  readonly onEnd: (ended: Ended) => void
}

/** Runs until the scope closes. */
export const make = ({ clickhouseUrl, onEnd, postgresUrl, program }: Options) =>
  Effect.gen(function* () {
    const proxies = { postgres: yield* Proxy.make(postgresUrl), clickhouse: yield* Proxy.make(clickhouseUrl) }
    const lines: Array<string> = []
    let child: ChildProcess | undefined
    let killed = false
    let started = false

    const start = Effect.acquireUseRelease(
      Effect.sync(() => {
        killed = false
        started = false
        const spawned = spawn(process.execPath, ["--import", CLOCK, program, "relay"], {
          stdio: ["ignore", "ignore", "pipe"],
          env: {
            PATH: process.env.PATH,
            ...VARIABLES,
            DATABASE_URL: proxies.postgres.url,
            CLICKHOUSE_URL: proxies.clickhouse.url
          }
        })
        spawned.stderr.on("data", (bytes) => {
          if (String(bytes).includes("The relay has started")) started = true
          lines.push(...String(bytes).trimEnd().split("\n"))
          lines.splice(0, lines.length - KEPT_LINES)
        })
        child = spawned
        return spawned
      }),
      (spawned) =>
        Effect.async<void>((resume) => {
          spawned.once("close", (code, signal) => {
            if (!killed) {
              const said = lines.slice(-20).join("\n")
              onEnd({ how: `a relay has ended by itself, with ${signal ?? `code ${code}`}:\n${said}` })
            }
            resume(Effect.void)
          })
        }),
      (spawned) =>
        Effect.sync(() => {
          killed = true
          spawned.kill("SIGKILL")
        })
    )
    yield* Effect.forkScoped(Effect.repeat(start, Schedule.spaced("20 millis")))
    const relay: Relay = {
      proxies,
      signal: (signal) => {
        if (signal === "SIGKILL") killed = true
        child?.kill(signal)
      },
      hasStarted: () => started,
      setClockForward: () => started && child?.kill("SIGUSR2") === true,
      log: () => lines
    }
    return relay
  })
