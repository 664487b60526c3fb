/** Builds the console into `dist/console`, unless what is there is newer than everything that it is made of. */

import { spawnSync } from "node:child_process"
import { readdirSync, statSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url))

/** The contract and what it needs come from `src`, libraries from where the lock file says. */
const SOURCES = [path("."), path("../src"), path("../package-lock.json")]

const BUILT = path("../dist/console/index.html")

const changedAt = (file: string): number => statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0

const newest = (source: string): number =>
  statSync(source).isDirectory()
    ? Math.max(
        ...readdirSync(source, { recursive: true, encoding: "utf8" }).map((file) => changedAt(join(source, file)))
      )
    : changedAt(source)

/** In a process of its own, because Vite takes NODE_ENV from its process, and tests have another. */
const build = () => {
  const vite = path("../node_modules/vite/bin/vite.js")
  const { status } = spawnSync(
    process.execPath,
    [vite, "build", "--config", path("vite.config.ts"), "--logLevel", "warn"],
    {
      env: { ...process.env, NODE_ENV: "production" },
      stdio: ["ignore", "inherit", "inherit"]
    }
  )
  if (status !== 0) throw new Error("The console was not built: Vite says why")
}

export const buildIfStale = (): void => {
  if (changedAt(BUILT) <= Math.max(...SOURCES.map(newest))) build()
}

if (process.argv[1] === fileURLToPath(import.meta.url)) buildIfStale()
