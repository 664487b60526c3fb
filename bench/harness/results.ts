/** What a benchmark writes to `bench/results`, with the machine: a figure says nothing without it. */
import { mkdir, writeFile } from "node:fs/promises"
import { createRequire } from "node:module"
import { arch, cpus, platform, release, totalmem } from "node:os"
import { SqlClient } from "@effect/sql"
import { ClickHouse } from "clickhouse-outbox"
import { Console, Effect } from "effect"
import * as Databases from "../databases.ts"
import type { Outcome, Settings } from "./Section.ts"

const RESULTS = new URL("../results/", import.meta.url)

const packageVersion = (name: string): string => {
  const manifest: { readonly version: string } = createRequire(import.meta.url)(name)
  return manifest.version
}

/** The machine, and every version that matters to the result. */
export const describe = (servers: Databases.Servers, postgresSettings: Readonly<Record<string, string>>) =>
  Effect.gen(function* () {
    const [postgres] = yield* (yield* SqlClient.SqlClient)<{ version: string }>`SELECT version()`
    const [clickHouse] = yield* (yield* ClickHouse.ClickHouse).query("SELECT version()")
    return {
      measuredAt: new Date(),
      machine: {
        cpus: cpus().map(({ model }) => model),
        memoryBytes: totalmem(),
        system: `${platform()} ${release()} ${arch()}`
      },
      versions: {
        "clickhouse-outbox": packageVersion("../../package.json"),
        node: process.version,
        postgres: postgres?.version,
        clickHouse: clickHouse?.[0],
        ...Object.fromEntries(
          ["@clickhouse/client", "pg", "pg-boss", "graphile-worker", "pg-transactional-outbox"].map((name) => [
            name,
            packageVersion(`../../node_modules/${name}/package.json`)
          ])
        )
      },
      postgresSettings
    }
  }).pipe(Effect.provide(Databases.connectTo(servers)))

/** A partial run must not replace the results of a whole one. */
const directoryOf = ({ only, quick }: Settings): URL =>
  quick ? new URL("quick/", RESULTS) : only.length > 0 ? new URL("partial/", RESULTS) : RESULTS

export const write = (
  settings: Settings,
  description: Readonly<Record<string, unknown>>,
  outcomes: ReadonlyArray<readonly [section: string, Outcome]>
) =>
  Effect.gen(function* () {
    const directory = directoryOf(settings)
    const sections = Object.fromEntries(outcomes.map(([section, { errors = [], runs }]) => [section, { runs, errors }]))
    const json = `${JSON.stringify({ ...description, settings, ...sections }, undefined, 2)}\n`
    const files = [
      { file: "throughput.json", content: json },
      ...outcomes.flatMap(([_, { charts }]) => charts.map(({ file, svg }) => ({ file, content: svg })))
    ]
    yield* Effect.promise(async () => {
      await mkdir(directory, { recursive: true })
      for (const { content, file } of files) await writeFile(new URL(file, directory), content)
    })
    yield* Console.error(
      `written: ${files.map(({ file }) => `${directory.pathname.replace(/^.*\/bench\//, "bench/")}${file}`).join(", ")}`
    )
  })
