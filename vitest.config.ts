import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"

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
    globalSetup: ["test/support/databases.ts"],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    maxWorkers: 2
  }
})
