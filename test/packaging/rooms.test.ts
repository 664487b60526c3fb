/** Holds the rule about rooms: what stands in `src/X/` is for `src/X.ts` and its own neighbours. */
import { readdirSync, readFileSync } from "node:fs"
import { dirname, join, relative, resolve } from "node:path"
import { fileURLToPath } from "node:url"
import { expect, it } from "@effect/vitest"

const ROOT = fileURLToPath(new URL("../../src", import.meta.url))

/** Rooms without a door: of what the outbox's tables mean, of help, and the package's further entry points. */
const OPEN: ReadonlyArray<string> = ["schema", "internal", "embedded", "testing"]

const roomOf = (file: string): string => (file.includes("/") ? file.slice(0, file.indexOf("/")) : "")

it("no file imports from a private room of another service", () => {
  const files = readdirSync(ROOT, { recursive: true, encoding: "utf8" }).filter((file) => /\.ts$/.test(file))
  const imports = files.flatMap((file) =>
    [...readFileSync(join(ROOT, file), "utf8").matchAll(/(?:\bfrom|\bimport\(|^import) ?"(\.[^"]+)"/gm)].map(
      ([, path = ""]) => ({ file, imported: relative(ROOT, resolve(ROOT, dirname(file), path)) })
    )
  )
  const trespasses = imports.filter(({ file, imported }) => {
    const room = roomOf(imported)
    return room !== "" && !OPEN.includes(room) && room !== roomOf(file) && file !== `${room}.ts`
  })
  expect(imports.length).toBeGreaterThan(500)
  expect(trespasses).toEqual([])
})
