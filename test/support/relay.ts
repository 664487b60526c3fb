/** Relays: in the test's own program, and in processes of their own. */
import { type ChildProcess, spawn } from "node:child_process"
import { readFileSync } from "node:fs"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { inject } from "vitest"
import * as Config from "../../src/Config.ts"
import * as OutboxStore from "../../src/OutboxStore.ts"
import * as Relay from "../../src/Relay.ts"
import { another, Environment } from "./environment.ts"
import { BOUND } from "./wait.ts"

const relay = Effect.flatMap(Effect.all([Config.relay, Config.outbox]), ([relay, outbox]) =>
  Relay.make({ ...relay, ...outbox })
)

/** Delivers everything that was committed. Dies, and says what is stuck, if that takes too long. */
export const drain = Effect.flatMap(relay, ({ drain }) => drain).pipe(
  Effect.timeoutTo({
    duration: BOUND,
    onSuccess: () => Effect.void,
    onTimeout: () =>
      Effect.flatMap(OutboxStore.OutboxStore, ({ status }) =>
        Effect.flatMap(status, (stuck) => Effect.dieMessage(`The outbox was not drained: ${JSON.stringify(stuck)}`))
      )
  }),
  Effect.flatten
)

/** A relay with connections of its own, until the scope closes or the fiber is interrupted. */
export const start = (overrides: Readonly<Record<string, string>> = {}) =>
  Effect.flatMap(relay, ({ run }) => run).pipe(Effect.provide(another(overrides)), Effect.forkScoped)

export interface RelayProcess {
  readonly pid: number
  readonly kill: (signal: NodeJS.Signals) => Effect.Effect<void>
  /** Its exit code, or the signal that ended it. */
  readonly ended: Effect.Effect<number | NodeJS.Signals | null>
  /** The most memory that it has had, in bytes. Linux only. */
  readonly peakMemory: Effect.Effect<number>
}

/** A relay in a process of its own, killed when the scope closes. */
export const startProcess = (overrides: Readonly<Record<string, string>> = {}) =>
  Effect.gen(function* () {
    const variables = yield* Environment
    const ended = yield* Deferred.make<number | NodeJS.Signals | null>()
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        spawn(process.execPath, [inject("programs").relay], {
          stdio: ["ignore", "inherit", "inherit"],
          env: { ...process.env, LOG_LEVEL: "Error", ...variables, ...overrides }
        })
      ),
      (child) => kill(child, "SIGKILL").pipe(Effect.zipRight(Deferred.await(ended)))
    )
    child.once("exit", (code, signal) => Deferred.unsafeDone(ended, Effect.succeed(signal ?? code)))
    const process_: RelayProcess = {
      pid: child.pid ?? 0,
      kill: (signal) => kill(child, signal),
      ended: Deferred.await(ended),
      peakMemory: Effect.sync(() => {
        const status = readFileSync(`/proc/${child.pid}/status`, "utf8")
        return Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1]) * 1024
      })
    }
    return process_
  })

const kill = (child: ChildProcess, signal: NodeJS.Signals) => Effect.sync(() => void child.kill(signal))
