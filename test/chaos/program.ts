/**
 * `clickhouse-outbox` in one file. Relays are started some thousand times in a run; from one file that takes a third of
 * the time that it takes from hundreds.
 */
import { copyFile, mkdtemp, rm } from "node:fs/promises"
import { createRequire } from "node:module"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as Effect from "effect/Effect"

const ROOT = fileURLToPath(new URL("../../", import.meta.url))

/** The bundler that runs this file comes with `tsx`. */
const { resolve } = createRequire(import.meta.url)
const { build }: typeof import("esbuild") = createRequire(resolve("tsx"))("esbuild")

/** Some of what is bundled still asks for `require`. */
const REQUIRE = `import { createRequire as requireFrom } from "node:module"; const require = requireFrom(import.meta.url);`

/** The file, which is there until the scope closes. */
export const bundle = Effect.gen(function* () {
  const directory = yield* Effect.acquireRelease(
    Effect.promise(() => mkdtemp(join(tmpdir(), "clickhouse-outbox-chaos-"))),
    (made) => Effect.promise(() => rm(made, { recursive: true }))
  )
  // As deep as the file that looks for package.json.
  const file = join(directory, "dist", "internal", "main.mjs")
  yield* Effect.promise(() =>
    Promise.all([
      // Says which version it is.
      copyFile(join(ROOT, "package.json"), join(directory, "package.json")),
      build({
        entryPoints: [join(ROOT, "src/main.ts")],
        outfile: file,
        bundle: true,
        platform: "node",
        format: "esm",
        banner: { js: REQUIRE },
        external: ["pg-native"],
        logLevel: "error"
      })
    ])
  )
  return file
})
