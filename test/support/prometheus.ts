/** Prometheus and its promtool, where they are installed, and what deploy/ gives them. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Scope } from "effect/Scope"
import { freePort } from "./listen.ts"
import { until } from "./wait.ts"

const deployed = (path: string) => fileURLToPath(new URL(`../../deploy/${path}`, import.meta.url))

export const RULES = deployed("prometheus/alerts.yml")
export const RULE_TESTS = deployed("prometheus/alerts.test.yml")

export const rules = readFileSync(RULES, "utf8")

const Target = Schema.Struct({ expr: Schema.String, legendFormat: Schema.String })
const Panel = Schema.Struct({
  id: Schema.Number,
  type: Schema.String,
  title: Schema.String,
  description: Schema.optional(Schema.String),
  gridPos: Schema.Struct({ x: Schema.Number, y: Schema.Number, w: Schema.Number, h: Schema.Number }),
  targets: Schema.optionalWith(Schema.Array(Target), { default: () => [] })
})
export type Panel = typeof Panel.Type

const Dashboard = Schema.Struct({
  uid: Schema.String,
  panels: Schema.Array(Panel),
  annotations: Schema.Struct({ list: Schema.Array(Schema.Struct({ expr: Schema.optional(Schema.String) })) }),
  templating: Schema.Struct({
    list: Schema.Array(Schema.Struct({ name: Schema.String, definition: Schema.optional(Schema.String) }))
  })
})

export const dashboard = Schema.decodeUnknownSync(Schema.parseJson(Dashboard))(
  readFileSync(deployed("grafana/clickhouse-outbox.json"), "utf8")
)

/** An expression as Grafana sends it: for one outbox, and all of its relays. */
export const asGrafana = (expr: string, job: string): string =>
  expr
    .replaceAll("$job", job)
    .replaceAll(/\$(instance|publishers)/g, ".*")
    .replaceAll("$__rate_interval", "1m")

export type Tool = "promtool" | "prometheus"

/** Skips the test where the tool is not installed, and says so. */
export const need = (tool: Tool, context: { readonly skip: (note: string) => void }): Effect.Effect<void> =>
  Effect.sync(() => {
    if (spawnSync(tool, ["--version"]).error) {
      context.skip(
        `needs ${tool}, which is not installed: it comes with Prometheus, on Debian as apt install prometheus`
      )
    }
  })

/** Runs promtool to its end. */
export const promtool = (args: ReadonlyArray<string>, input = "") =>
  Effect.sync(() => {
    const { status, stderr, stdout } = spawnSync("promtool", args, { input, encoding: "utf8" })
    return { code: status, said: `${stdout}${stderr}` }
  })

const Result = Schema.Struct({
  status: Schema.Literal("success"),
  data: Schema.Struct({
    result: Schema.Array(
      Schema.Struct({
        metric: Schema.Record({ key: Schema.String, value: Schema.String }),
        value: Schema.Tuple(Schema.Number, Schema.NumberFromString)
      })
    )
  })
})

const Rules = Schema.Struct({
  status: Schema.Literal("success"),
  data: Schema.Struct({
    groups: Schema.Array(
      Schema.Struct({
        rules: Schema.Array(
          Schema.Struct({
            name: Schema.String,
            query: Schema.String,
            health: Schema.String,
            state: Schema.String,
            lastError: Schema.optional(Schema.String)
          })
        )
      })
    )
  })
})

export interface Prometheus {
  /** What an expression is now: each series' labels and value. Dies if Prometheus does not take it. */
  readonly query: (expr: string) => Effect.Effect<(typeof Result.Type)["data"]["result"]>
  /** The value of an expression that has one series; undefined if it has none. */
  readonly value: (expr: string) => Effect.Effect<number | undefined>
  readonly rules: Effect.Effect<(typeof Rules.Type)["data"]["groups"][number]["rules"]>
}

/** A Prometheus that scrapes a relay every half a second, until the scope closes. Its alerts wait for a second. */
export const start = (job: string, relayPort: number) =>
  Effect.gen(function* () {
    const directory = yield* Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "outbox-prometheus-"))),
      (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
    )
    const port = yield* freePort
    writeFileSync(join(directory, "alerts.yml"), rules.replaceAll(/^( +for:) .*$/gm, "$1 1s"))
    writeFileSync(
      join(directory, "prometheus.yml"),
      JSON.stringify({
        global: { scrape_interval: "500ms", scrape_timeout: "500ms", evaluation_interval: "500ms" },
        rule_files: ["alerts.yml"],
        scrape_configs: [{ job_name: job, static_configs: [{ targets: [`127.0.0.1:${relayPort}`] }] }]
      })
    )
    yield* run("prometheus", [
      `--config.file=${join(directory, "prometheus.yml")}`,
      `--storage.tsdb.path=${join(directory, "data")}`,
      `--web.listen-address=127.0.0.1:${port}`,
      "--log.level=error"
    ])
    const url = `http://127.0.0.1:${port}`
    yield* until(
      Effect.promise(() =>
        fetch(`${url}/-/ready`).then(
          ({ ok }) => ok,
          () => false
        )
      ),
      (ready) => ready
    )
    const ask = <A, I>(schema: Schema.Schema<A, I>, path: string, form: Record<string, string> = {}) =>
      Effect.promise(async () => {
        const response = await fetch(`${url}${path}?${new URLSearchParams(form)}`)
        return response.text()
      }).pipe(Effect.flatMap(Schema.decode(Schema.parseJson(schema))), Effect.orDie)
    const query = (expr: string) =>
      Effect.map(ask(Result, "/api/v1/query", { query: expr }), ({ data: { result } }) => result)
    const prometheus: Prometheus = {
      query,
      value: (expr) => Effect.map(query(expr), ([first]) => first?.value[1]),
      rules: Effect.map(ask(Rules, "/api/v1/rules"), ({ data }) => data.groups.flatMap(({ rules }) => rules))
    }
    return prometheus
  })

/** Until the scope closes, which waits for its end: its directory is removed after that. */
const run = (command: string, args: ReadonlyArray<string>): Effect.Effect<ChildProcess, never, Scope> =>
  Effect.gen(function* () {
    const ended = yield* Deferred.make<void>()
    return yield* Effect.acquireRelease(
      Effect.sync(() => {
        const child = spawn(command, args, { stdio: ["ignore", "ignore", "inherit"] })
        child.once("close", () => Deferred.unsafeDone(ended, Effect.void))
        return child
      }),
      (child) =>
        Effect.zipRight(
          Effect.sync(() => child.kill("SIGTERM")),
          Deferred.await(ended)
        )
    )
  })
