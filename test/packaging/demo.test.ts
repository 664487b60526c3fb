import { spawn } from "node:child_process"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { chmod, mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { SqlClient } from "@effect/sql"
import { expect, it, layer } from "@effect/vitest"
import { Effect } from "effect"
import * as Judge from "../../examples/demo/Judge.ts"
import { ClickHouse } from "../../src/ClickHouse.ts"
import * as Config from "../../src/Config.ts"
import * as Relay from "../../src/Relay.ts"
import * as Environment from "../support/environment.ts"
import { until } from "../support/wait.ts"
import { isWhole } from "../support/whole.ts"

const temporary = Effect.acquireRelease(
  Effect.promise(async () => {
    const directory = await mkdtemp(join(tmpdir(), "demo test "))
    // Started by root, Postgres runs as somebody else, who must get through.
    await chmod(directory, 0o755)
    return directory
  }),
  (directory) => Effect.promise(() => rm(directory, { recursive: true, force: true }))
)

/** `npm run demo -- …`, and what it has printed. */
const demo = (...args: ReadonlyArray<string>) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const main = fileURLToPath(new URL("../../examples/demo/main.ts", import.meta.url))
      const child = spawn(process.execPath, ["--import", "tsx", main, ...args])
      const output = { stdout: "", stderr: "" }
      child.stdout.on("data", (chunk) => {
        output.stdout += chunk
      })
      child.stderr.on("data", (chunk) => {
        output.stderr += chunk
      })
      const exitCode = new Promise<number | null>((resolve) => void child.once("close", resolve))
      return { child, output, exitCode: Effect.promise(() => exitCode) }
    }),
    ({ child }) => Effect.sync(() => child.kill("SIGKILL"))
  )

const lastLine = (text: string) => text.trimEnd().split("\n").at(-1)

/** Processes whose arguments name the folder. Known where there is /proc. */
const processesIn = (directory: string) =>
  existsSync("/proc/self/cmdline")
    ? readdirSync("/proc").filter((pid) => {
        try {
          return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(directory)
        } catch {
          return false
        }
      })
    : []

const eventually = (what: () => boolean) => until(Effect.sync(what), (so) => so)

it.scopedLive("npm run demo ends by itself when every event has arrived once, and leaves no process", () =>
  Effect.gen(function* () {
    const directory = yield* temporary
    const { exitCode, output } = yield* demo("--data", directory, "--once", "--events", "2000")
    expect(yield* exitCode, output.stderr).toBe(0)
    expect(lastLine(output.stdout)).toBe("demo: published=2000 delivered=2000 missing=0 duplicated=0")
    expect(processesIn(directory)).toEqual([])
  })
)

it.scopedLive.runIf(isWhole)("npm run demo goes on until Ctrl-C, then stops cleanly, however often it is pressed", () =>
  Effect.gen(function* () {
    const directory = yield* temporary
    const { child, exitCode, output } = yield* demo("--data", directory)
    yield* eventually(() => / [1-9][\d,]* .* s\n/.test(output.stderr))
    child.kill("SIGINT")
    child.kill("SIGINT")
    expect(yield* exitCode, output.stderr).toBe(0)
    const verdict = lastLine(output.stdout) ?? ""
    expect(verdict).toMatch(/^demo: published=(\d+) delivered=\1 missing=0 duplicated=0$/)
    const [, delivered] = lastLine(output.stderr)?.trim().split(/\s+/) ?? []
    expect(verdict).toContain(` delivered=${delivered?.replaceAll(",", "")} `)
    expect(output.stderr).toContain("Stopping.")
    expect(processesIn(directory)).toEqual([])
  })
)

it.scopedLive("npm run demo says which argument is wrong", () =>
  Effect.gen(function* () {
    const { exitCode, output } = yield* demo("--once", "--events", "0")
    expect(yield* exitCode).toBe(1)
    expect(output.stderr).toContain("--events must be a whole number from 1")
  })
)

layer(Environment.layer(), { excludeTestServices: true })((it) => {
  it.effect("The demo's verdict names what is missing, what is doubled, and what was never published", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const clickHouse = yield* ClickHouse
      const relay = yield* Relay.make({ ...(yield* Config.relay), ...(yield* Config.outbox) })
      // More than the judge reads at a time.
      yield* sql`
        SELECT count(outbox.publish('counted', '{}', environment => 'run')) FROM generate_series(1, 45000)
      `
      yield* sql`SELECT outbox.publish('counted', '{}', environment => 'another run')`
      yield* relay.drain
      expect(String(yield* Judge.judge("run"))).toBe("published=45000 delivered=45000 missing=0 duplicated=0")

      yield* clickHouse.command(`
        DELETE FROM event_log
        WHERE event_id IN (SELECT event_id FROM event_log WHERE environment = 'run' ORDER BY event_id LIMIT 2)
      `)
      yield* clickHouse.command(`
        INSERT INTO event_log
        SELECT * FROM event_log WHERE environment = 'run' ORDER BY event_id LIMIT 3
      `)
      yield* clickHouse.command(`
        INSERT INTO event_log (event_type, environment, event_id) VALUES ('counted', 'run', generateUUIDv4())
      `)
      expect(String(yield* Judge.judge("run"))).toBe("published=45000 delivered=44999 missing=2 duplicated=3")
    })
  )
})
