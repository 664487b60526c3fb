/** Builds the console into `dist/console`, unless what is there is newer than everything that it is made of. */
import { readdirSync, statSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { build } from "vite"

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

export const buildIfStale = async (): Promise<void> => {
  if (changedAt(BUILT) > Math.max(...SOURCES.map(newest))) return
  await build({ configFile: path("vite.config.ts"), logLevel: "warn" })
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await buildIfStale()
