/**
 * ClickHouse 26.7 without an installation: the whole engine, out of the npm package `chdb`, with its HTTP server on.
 *
 * - An insert that was acknowledged is still there after `kill` and `restart`.
 * - User `default` without a password, database `default`, on 127.0.0.1 only: anybody on this machine may use it.
 * - Nothing grows by itself: there are no `system.*_log` tables, and only warnings and errors are logged.
 * - Half of the machine's memory at the most.
 *
 * Needs the npm packages `chdb` and `ffi-rs`, which exist for Linux (glibc) and macOS; tried on Linux.
 *
 * @since 0.1.0
 */
import { createRequire } from "node:module"
import { dirname, join } from "node:path"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as DataDirectory from "./DataDirectory.ts"
import * as EmbeddedServer from "./EmbeddedServer.ts"

/**
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /**
   * Created where it does not exist, kept otherwise. Holds the data, `config.xml` and `clickhouse.log`. Where none is
   * given, a temporary one is used and removed when the scope closes.
   */
  readonly dataDir?: string | undefined
  /** A free port where none is given. */
  readonly port?: number | undefined
  /** Server settings that are added to or replace {@link defaultSettings}; not those of queries or tables. */
  readonly settings?: Settings | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Settings {
  /** An element of `config.xml`, with its text or with elements of its own. */
  readonly [name: string]: string | number | Settings
}

/**
 * What differs from the library's defaults, most of which are those of a server.
 *
 * @since 0.1.0
 * @category models
 */
export const defaultSettings: Settings = {
  "log-level": "warning",
  // The machine is shared with Postgres and the program itself.
  max_server_memory_usage_to_ram_ratio: 0.5,
  // As a server has them; the library would make do with 2.
  background_pool_size: 16,
  background_schedule_pool_size: 16
}

/**
 * @since 0.1.0
 * @category tags
 */
export class EmbeddedClickHouse extends Context.Tag("clickhouse-outbox/EmbeddedClickHouse")<
  EmbeddedClickHouse,
  EmbeddedServer.EmbeddedServer
>() {}

/**
 * Starts ClickHouse, and stops it when the scope closes.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options: Options = {}
): Effect.Effect<EmbeddedServer.EmbeddedServer, EmbeddedServer.EmbeddedServerError, Scope.Scope> =>
  Effect.gen(function* () {
    const library = yield* findLibrary
    const dataDir = yield* DataDirectory.make("ClickHouse", options.dataDir)
    const log = join(dataDir, "clickhouse.log")
    return yield* EmbeddedServer.make({
      server: "ClickHouse",
      script: "clickHouseChild",
      args: (port) => [
        library,
        dataDir,
        String(port),
        configXml({
          path: `${dataDir}/`,
          listen_host: "127.0.0.1",
          http_port: port,
          logger: { log },
          ...defaultSettings,
          ...options.settings
        })
      ],
      url: (port) => `http://127.0.0.1:${port}`,
      log,
      port: options.port
    })
  })

/**
 * @since 0.1.0
 * @category layers
 */
export const layer = (options?: Options): Layer.Layer<EmbeddedClickHouse, EmbeddedServer.EmbeddedServerError> =>
  Layer.scoped(EmbeddedClickHouse, make(options))

/** The library lies in a package of `chdb` that npm installs for this platform alone. */
const findLibrary = Effect.try({
  try: () => {
    const { platform, arch } = process
    const { resolve } = createRequire(import.meta.url)
    // The child process needs it, and could say so in its log only.
    resolve("ffi-rs")
    const chdb = resolve("chdb")
    const name = `@chdb/lib-${platform}-${arch}${platform === "linux" ? "-gnu" : ""}`
    return join(dirname(createRequire(chdb).resolve(name)), "libchdb.so")
  },
  catch: () =>
    new EmbeddedServer.EmbeddedServerError({
      server: "ClickHouse",
      reason: "Unavailable",
      detail:
        `the npm package chdb or ffi-rs is missing, or there is none for ${process.platform}-${process.arch}; run ` +
        "`npm install --save-dev chdb ffi-rs`, or set DATABASE_URL and CLICKHOUSE_URL to servers of your own",
      log: ""
    })
})

const configXml = (config: Settings): string => {
  const elements = (entries: Settings): string =>
    Object.entries(entries)
      .map(([key, value]) => `<${key}>${typeof value === "object" ? elements(value) : escapeXml(value)}</${key}>`)
      .join("\n")
  return `<clickhouse>\n${elements(config)}\n</clickhouse>\n`
}

const escapeXml = (value: string | number): string =>
  String(value).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")
