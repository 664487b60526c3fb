import { availableParallelism } from "node:os"
import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"
import { isWhole } from "./test/support/whole.ts"

const source = (path: string) => fileURLToPath(new URL(`./src/${path}`, import.meta.url))

export default defineConfig({
  // As in tsconfig.json: the examples import the package by its name.
  resolve: {
    alias: [
      { find: /^clickhouse-outbox$/, replacement: source("index.ts") },
      { find: /^clickhouse-outbox\/operator-api$/, replacement: source("OperatorServer/Api.ts") },
      { find: /^clickhouse-outbox\/(\w+)$/, replacement: source("$1/index.ts") }
    ]
  },
  test: {
    include: ["test/**/*.test.ts"],
    // Packs, builds and installs the package: a minute before its first test.
    exclude: isWhole ? [] : ["test/packaging/package.test.ts"],
    globalSetup: ["test/support/databases.ts"],
    // What hangs. Tests wait for states, and each wait has a bound of its own: see test/support/wait.ts.
    testTimeout: 600_000,
    hookTimeout: 600_000,
    // Most tests wait most of the time: for databases, for programs, for clocks.
    maxWorkers: Math.max(4, 2 * availableParallelism())
  }
})
