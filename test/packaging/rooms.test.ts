/** Holds the rules about rooms: who may enter which, and that imports lead down. */
import { readdirSync, readFileSync } from "node:fs"
import { dirname, join, relative, resolve } from "node:path"
import { fileURLToPath } from "node:url"
import { expect, it } from "@effect/vitest"

const ROOT = fileURLToPath(new URL("../../src", import.meta.url))

/** Rooms without a door: of what the tables mean, of help, and the package's further entry points. */
const OPEN: ReadonlyArray<string> = ["schema", "internal", "embedded", "testing"]

const roomOf = (file: string): string => (file.includes("/") ? file.slice(0, file.indexOf("/")) : "")

const imports = readdirSync(ROOT, { recursive: true, encoding: "utf8" })
  .filter((file) => /\.ts$/.test(file))
  .flatMap((file) =>
    [...readFileSync(join(ROOT, file), "utf8").matchAll(/(?:\bfrom|\bimport\(|^import) ?"(\.[^"]+)"/gm)].map(
      ([, path = ""]) => ({ file, imported: relative(ROOT, resolve(ROOT, dirname(file), path)) })
    )
  )

it("no file imports from a private room of another service", () => {
  const trespasses = imports.filter(({ file, imported }) => {
    const room = roomOf(imported)
    return room !== "" && !OPEN.includes(room) && room !== roomOf(file) && file !== `${room}.ts`
  })
  expect(imports.length).toBeGreaterThan(500)
  expect(trespasses).toEqual([])
})

it("no file imports from a row that stands above its own in CONTRIBUTING's picture", () => {
  const [, picture = ""] =
    /private room, the folder of the same name:\n\n(.+?)\n\n/s.exec(
      readFileSync(join(ROOT, "../CONTRIBUTING.md"), "utf8")
    ) ?? []
  // The last row is of what stands beside the house. Behind two spaces each row is described.
  const rows = picture
    .split("\n")
    .slice(0, -1)
    .map((line) => line.trim().split(/ {2,}/, 1).join().split(" · "))
  const rowOf = (file: string) =>
    rows.findIndex(
      (row) => row.includes(file) || row.includes(`${roomOf(file)}/`) || row.includes(`${roomOf(file)}.ts`)
    )
  const ofTheHouse = imports.filter(({ file }) => !["embedded", "testing"].includes(roomOf(file)))
  expect(ofTheHouse.filter(({ file }) => rowOf(file) === -1)).toEqual([])
  expect(ofTheHouse.filter(({ file, imported }) => rowOf(imported) < rowOf(file))).toEqual([])
})
