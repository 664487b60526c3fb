/**
 * The package as its users have it: packed by npm out of a copy of this checkout, installed by npm in a project that
 * has nothing else.
 *
 * The registry is not asked. The versions that package-lock.json has for production lie in the project before npm
 * installs, and npm takes them or removes them: what the package does not declare is gone, and what is declared and not
 * there ends the installation.
 */
import { spawn } from "node:child_process"
import { access, cp, mkdir, mkdtemp, readdir, readFile, realpath, rm, stat, symlink, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { dirname, join, relative } from "node:path"
import { fileURLToPath } from "node:url"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type { Ended } from "./cli.ts"

export class NpmProject extends Context.Tag("test/NpmProject")<
  NpmProject,
  {
    readonly directory: string
    /** Of the package alone, compressed as it travels. */
    readonly tarballBytes: number
    /** What the package has brought, without what it depends on. */
    readonly files: ReadonlyArray<string>
    readonly write: (file: string, contents: string) => Effect.Effect<void>
    /** Runs a program in the project to its end, with these variables and what npm needs of this process's. */
    readonly run: (
      command: string,
      args: ReadonlyArray<string>,
      variables?: Readonly<Record<string, string>>
    ) => Effect.Effect<Ended>
  }
>() {}

const CHECKOUT = fileURLToPath(new URL("../../", import.meta.url))

/** A program of this checkout's development dependencies, which the project has none of. */
export const developmentTool = (path: string): string => join(CHECKOUT, "node_modules", path)

/** Made again, large, or private to this checkout. */
const NOT_COPIED = new Set(["node_modules", "dist", ".git", ".data", ".env"])

const run = (
  cwd: string,
  command: string,
  args: ReadonlyArray<string>,
  variables: Readonly<Record<string, string>> = {}
): Effect.Effect<Ended> =>
  Effect.async((resume) => {
    const { HOME, PATH } = process.env
    // npm also warns about the settings of whoever runs it.
    const env = { HOME, PATH, npm_config_loglevel: "error", ...variables }
    const child = spawn(command, args, { cwd, env, stdio: ["ignore", "pipe", "pipe"] })
    let stdout = ""
    let stderr = ""
    child.stdout.setEncoding("utf8").on("data", (text) => {
      stdout += text
    })
    child.stderr.setEncoding("utf8").on("data", (text) => {
      stderr += text
    })
    child.once("error", (error) => resume(Effect.die(error)))
    child.once("close", (code) => resume(Effect.succeed({ code, stdout, stderr })))
    return Effect.async<void>((killed) => {
      child.once("close", () => killed(Effect.void))
      child.kill("SIGKILL")
    })
  })

const npm = (cwd: string, args: ReadonlyArray<string>) =>
  Effect.flatMap(run(cwd, "npm", args), (ended) =>
    ended.code === 0
      ? Effect.succeed(ended)
      : Effect.dieMessage(`npm ${args[0]} failed:\n${ended.stdout}${ended.stderr}`)
  )

const exists = (path: string) =>
  access(path).then(
    () => true,
    () => false
  )

/** With its build, and away from this checkout's, which others may use meanwhile. */
const pack = (directory: string) =>
  Effect.gen(function* () {
    const copy = join(directory, "checkout")
    yield* Effect.promise(async () => {
      await mkdir(join(copy, "dist"), { recursive: true })
      for (const name of await readdir(CHECKOUT)) {
        if (!NOT_COPIED.has(name)) await cp(join(CHECKOUT, name), join(copy, name), { recursive: true })
      }
      await symlink(join(CHECKOUT, "node_modules"), join(copy, "node_modules"))
      // What may lie around where a release is made.
      await writeFile(join(copy, ".env"), "OUTBOX_HTTP_TOKEN=secret\n")
      await writeFile(join(copy, "dist/removed.js"), "// of a source that is gone\n")
    })
    yield* npm(copy, ["pack", "--pack-destination", directory])
    const [tarball = ""] = (yield* Effect.promise(() => readdir(directory))).filter((name) => name.endsWith(".tgz"))
    return join(directory, tarball)
  })

const Entry = Schema.Struct(
  {
    dev: Schema.optional(Schema.Boolean),
    devOptional: Schema.optional(Schema.Boolean),
    bin: Schema.optional(Schema.Record({ key: Schema.String, value: Schema.String }))
  },
  Schema.Record({ key: Schema.String, value: Schema.Unknown })
)

const Lock = Schema.parseJson(Schema.Struct({ packages: Schema.Record({ key: Schema.String, value: Entry }) }))

const provideDependencies = (project: string) =>
  Effect.promise(async () => {
    const lock = Schema.decodeSync(Lock)(await readFile(join(CHECKOUT, "package-lock.json"), "utf8"))
    const production = Object.entries(lock.packages).filter(
      ([path, { dev, devOptional }]) => path !== "" && dev !== true && devOptional !== true
    )
    for (const [path, { bin = {} }] of production) {
      const from = join(CHECKOUT, path)
      // Those of other platforms are not.
      if (!(await exists(from))) continue
      // Those below it have entries of their own.
      const filter = (file: string) => relative(from, file).split("/")[0] !== "node_modules"
      await cp(from, join(project, path), { recursive: true, filter })
      const bins = join(project, path.slice(0, path.lastIndexOf("node_modules/")), "node_modules/.bin")
      for (const [name, file] of Object.entries(bin)) {
        await mkdir(bins, { recursive: true })
        await symlink(relative(bins, join(project, path, file)), join(bins, name))
      }
    }
    const app = { name: "app", version: "1.0.0" }
    await writeFile(join(project, "package.json"), JSON.stringify({ ...app, private: true, type: "module" }))
    await writeFile(
      join(project, "package-lock.json"),
      JSON.stringify({ ...app, lockfileVersion: 3, packages: { "": app, ...Object.fromEntries(production) } })
    )
  })

const OFFLINE = ["--offline", "--ignore-scripts", "--no-audit", "--no-fund"]

const make = Effect.gen(function* () {
  const directory = yield* Effect.acquireRelease(
    Effect.promise(async () => realpath(await mkdtemp(join(tmpdir(), "clickhouse-outbox-package-")))),
    (directory) => Effect.promise(() => rm(directory, { recursive: true, force: true, maxRetries: 3 }))
  )
  const project = join(directory, "app")
  yield* Effect.promise(() => mkdir(project))
  const [tarball] = yield* Effect.all([pack(directory), provideDependencies(project)], { concurrency: 2 })
  yield* npm(project, ["install", ...OFFLINE, tarball])
  const installed = join(project, "node_modules/clickhouse-outbox")
  const found = yield* Effect.promise(() => readdir(installed, { recursive: true, withFileTypes: true }))
  return NpmProject.of({
    directory: project,
    tarballBytes: (yield* Effect.promise(() => stat(tarball))).size,
    files: found
      .filter((entry) => entry.isFile())
      .map((entry) => relative(installed, join(entry.parentPath, entry.name)))
      .toSorted(),
    write: (file, contents) =>
      Effect.promise(async () => {
        await mkdir(dirname(join(project, file)), { recursive: true })
        await writeFile(join(project, file), contents)
      }),
    run: (command, args, variables) => run(project, command, args, variables)
  })
})

export const layer = Layer.scoped(NpmProject, make)
