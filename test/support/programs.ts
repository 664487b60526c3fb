/**
 * The programs that tests start, some hundred times in a run and some thousand times in `npm run chaos`: each bundled
 * once. `clickhouse-outbox` starts in a quarter of a second so, and in two seconds from its sources.
 */
import { mkdir, mkdtemp, rm, symlink } from "node:fs/promises"
import { createRequire } from "node:module"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

const ROOT = fileURLToPath(new URL("../../", import.meta.url))

/** The bundler comes with `tsx`. */
const { resolve } = createRequire(import.meta.url)
const { build }: typeof import("esbuild") = createRequire(resolve("tsx"))("esbuild")

/** Some of what is bundled still asks for `require`. */
const REQUIRE = `import { createRequire as requireFrom } from "node:module"; const require = requireFrom(import.meta.url);`

export interface Programs {
  /** `clickhouse-outbox`. */
  readonly cli: string
  /** A relay alone, without a command line. */
  readonly relay: string
  /** An application that publishes, with telemetry. */
  readonly publisher: string
}

/** Their files, which are there until the scope closes. */
export const make: Effect.Effect<Programs, never, Scope.Scope> = Effect.gen(function* () {
  const cache = join(ROOT, "node_modules/.cache")
  const directory = yield* Effect.acquireRelease(
    // Below `node_modules`, where what is not bundled is found.
    Effect.promise(async () => {
      await mkdir(cache, { recursive: true })
      return mkdtemp(join(cache, "clickhouse-outbox-"))
    }),
    (made) => Effect.promise(() => rm(made, { recursive: true }))
  )
  // Two folders deep, as the sources are that look for it.
  const outdir = join(directory, "package", "dist")
  yield* Effect.promise(() =>
    Promise.all([
      // What the program reads beside itself.
      symlink(join(ROOT, "package.json"), join(directory, "package.json")),
      mkdir(join(directory, "package")).then(() =>
        symlink(join(ROOT, "migrations"), join(directory, "package", "migrations"))
      ),
      build({
        entryPoints: {
          cli: join(ROOT, "src/main.ts"),
          relay: join(ROOT, "test/support/relayProcess.ts"),
          publisher: join(ROOT, "test/support/otlp/program.ts")
        },
        outdir,
        bundle: true,
        // What a program loads when it needs it stays apart.
        splitting: true,
        platform: "node",
        format: "esm",
        banner: { js: REQUIRE },
        // A test looks at what of OpenTelemetry is loaded.
        external: ["pg-native", "@opentelemetry/*"],
        logLevel: "error"
      })
    ])
  )
  const built = (name: string) => join(outdir, `${name}.js`)
  return { cli: built("cli"), relay: built("relay"), publisher: built("publisher") }
})
