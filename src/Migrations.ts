/**
 * Brings both databases to this release's schema.
 *
 * Safe to run at any time, any number of times, by any number of processes at once. Postgres: numbered files, each run
 * once, all of them in one transaction, recorded in `outbox.migration`; then `roles.sql`, every time. ClickHouse has no
 * transactions, so its files are idempotent statements that are run every time.
 *
 * @since 0.1.0
 */
import { fileURLToPath } from "node:url"
import * as FileSystem from "@effect/platform/FileSystem"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as Migrator from "@effect/sql/Migrator"
import * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import type * as ConfigError from "effect/ConfigError"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import { ClickHouse } from "./ClickHouse.ts"
import * as Config from "./Config.ts"
import { SEARCH_PATH, stating } from "./internal/meaning.ts"
import { reasonOf } from "./internal/text.ts"
import * as RetryPolicy from "./RetryPolicy.ts"
import { SinkError } from "./SinkError.ts"
import { rowOf, rowsOf } from "./schema/columns.ts"
import { requireEncoding, type UnsuitableEncoding } from "./schema/compatibility.ts"
import { atomically } from "./Transaction.ts"

/**
 * A migration of Postgres failed.
 *
 * @since 0.1.0
 * @category errors
 */
export class MigrationFailed extends Schema.TaggedError<MigrationFailed>()("MigrationFailed", {
  cause: Schema.Defect,
  /** The event trigger of the database that failed, if it was one. */
  eventTrigger: Schema.optionalWith(Schema.String, { exact: true })
}) {
  override get message(): string {
    const advice =
      this.eventTrigger === undefined
        ? ""
        : `. That is in the event trigger ${this.eventTrigger}, which ran with a search_path of "${SEARCH_PATH}": let its function name the schema of what it uses, or SET a search_path of its own`
    return `Postgres could not be migrated, and is as it was: ${reasonOf(this.cause)}${advice}`
  }
}

interface File {
  readonly id: number
  readonly name: string
  readonly sql: string
}

const folderOf = (directory: "postgres" | "clickhouse"): string =>
  fileURLToPath(new URL(`../migrations/${directory}/`, import.meta.url))

/** The numbered files. They come with the package, so a missing one is a bug. */
const files = (directory: "postgres" | "clickhouse"): Effect.Effect<ReadonlyArray<File>> =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const folder = folderOf(directory)
    const names = Arr.filterMap(yield* fs.readDirectory(folder), (file) =>
      Option.fromNullable(/^(\d+)_(\w+)\.sql$/.exec(file))
    )
    return yield* Effect.forEach(names.sort(), ([file, id, name]) =>
      Effect.map(fs.readFileString(`${folder}${file}`), (sql) => ({ id: Number(id), name: String(name), sql }))
    )
  }).pipe(Effect.provide(NodeFileSystem.layer), Effect.orDie)

/**
 * Migrates Postgres and returns the names of the migrations that were run.
 *
 * @since 0.1.0
 * @category migrations
 */
export const postgres: Effect.Effect<
  ReadonlyArray<string>,
  MigrationFailed | SqlError | UnsuitableEncoding,
  SqlClient.SqlClient
> = Effect.gen(function* () {
  const sql = (yield* SqlClient.SqlClient).withoutTransforms()
  yield* requireEncoding(sql)
  const migrations = yield* files("postgres")
  // On a connection of its own: Effect's migrator begins with statements outside of its transaction that two at once
  // collide in. A transaction's lock, because a session's would not survive a pooler.
  const guard = yield* sql.reserve
  yield* Effect.acquireRelease(
    guard.executeRaw(
      `BEGIN; ${stating(PINNED)}; SELECT pg_advisory_xact_lock(hashtext('clickhouse-outbox'), hashtext('migrate'))`,
      []
    ),
    () =>
      Effect.catchAll(guard.executeRaw("COMMIT", []), (error) =>
        Effect.logWarning("The lock that keeps migrations apart was lost before they ended", error)
      )
  )
  // Not IF NOT EXISTS, which needs the privilege to create schemas even where there is nothing to create.
  const { found } = yield* rowOf(Found)(sql`SELECT to_regnamespace('outbox') IS NOT NULL AS found`)
  if (!found) yield* sql`CREATE SCHEMA outbox`
  const done = yield* Migrator.make({})({
    table: "outbox.migration",
    // Run by the migrator at the beginning of its transaction.
    loader: Effect.as(
      Effect.mapError(sql.unsafe(stating(PINNED)), pinningFailed),
      migrations.map(({ id, name, sql: text }) => [id, name, Effect.succeed({ default: sql.unsafe(text) })] as const)
    )
  })
  yield* grantRoles(sql)
  return done.map(([id, name]) => `${String(id).padStart(4, "0")}_${name}`)
}).pipe(
  Effect.scoped,
  Effect.catchSomeDefect((defect) =>
    defect instanceof Migrator.MigrationError ? Option.some(Effect.fail(defect)) : Option.none()
  ),
  Effect.catchAll((error) => explain(error)),
  Effect.withSpan("Migrations.postgres")
)

const Found = Schema.Struct({ found: Schema.Boolean })

/**
 * Names the event trigger that an error was raised in, which nobody thinks of and no message of Postgres' says. Event
 * triggers run in the migration's session, so what they name without a schema is not found there.
 */
const explain = (
  error: Migrator.MigrationError | SqlError | UnsuitableEncoding
): Effect.Effect<never, MigrationFailed | SqlError | UnsuitableEncoding, SqlClient.SqlClient> =>
  Effect.gen(function* () {
    if (error._tag === "UnsuitableEncoding") return yield* error
    const sql = (yield* SqlClient.SqlClient).withoutTransforms()
    const triggers = yield* Effect.orElseSucceed(eventTriggers(sql), () => [])
    const place = placeOf(error)
    const failed = triggers.find(
      ({ functionName, schema }) => place.includes(` ${functionName}(`) || place.includes(` ${schema}.${functionName}(`)
    )
    if (failed !== undefined) return yield* new MigrationFailed({ cause: error, eventTrigger: failed.name })
    return yield* error._tag === "SqlError" ? error : new MigrationFailed({ cause: error })
  })

const EventTrigger = Schema.Struct({ name: Schema.String, functionName: Schema.String, schema: Schema.String })

const eventTriggers = (sql: SqlClient.SqlClient) =>
  rowsOf(EventTrigger)(sql`
    SELECT evtname AS name, proname AS "functionName", pronamespace::regnamespace::text AS schema
    FROM pg_event_trigger
    JOIN pg_proc ON pg_proc.oid = evtfoid
    WHERE evtenabled <> 'D'
  `)

/** Where Postgres met an error: the functions that were running, innermost first. */
const placeOf = (error: unknown): string =>
  Predicate.hasProperty(error, "where") && Predicate.isString(error.where)
    ? error.where
    : Predicate.hasProperty(error, "cause")
      ? placeOf(error.cause)
      : ""

/** What is created here binds what it names now, and roles.sql calls functions with the rights of whoever migrates. */
const PINNED = `SET LOCAL search_path = ${SEARCH_PATH}; SET LOCAL default_table_access_method = heap`

const pinningFailed = (cause: SqlError) =>
  new Migrator.MigrationError({ cause, reason: "failed", message: `"${PINNED}" failed` })

/**
 * Runs `migrations/postgres/roles.sql`, which says who may do what. Many managed servers let nobody create roles: that
 * is no failure, but somebody has to know.
 */
const grantRoles = (sql: SqlClient.SqlClient): Effect.Effect<void, SqlError> =>
  Effect.gen(function* () {
    const text = yield* FileSystem.FileSystem.pipe(
      Effect.flatMap((fs) => fs.readFileString(`${folderOf("postgres")}roles.sql`)),
      Effect.provide(NodeFileSystem.layer),
      Effect.orDie
    )
    // In one transaction: nobody sees a role without its grants.
    const missing = yield* atomically(
      sql,
      PINNED
    )(
      Effect.zipRight(
        sql.unsafe(text),
        rowsOf(Schema.Struct({ name: Schema.String }))(
          sql`SELECT name FROM unnest(${ROLES}::text[]) AS name WHERE to_regrole(name) IS NULL`
        )
      )
    )
    if (missing.length === 0) return
    const statements = missing.map(({ name }) => `CREATE ROLE ${name} NOLOGIN;`).join(" ")
    yield* Effect.logWarning(
      `Postgres lacks roles that this one may not create. Let an administrator run "${statements}", then run "clickhouse-outbox migrate" again, which grants them what they need`
    )
  })

const ROLES = ["outbox_publisher", "outbox_relay", "outbox_operator", "outbox_reader"]

/** In one go, so that neither is looked for in what was filled in. */
const fillIn = (
  { sql }: File,
  { engine, onCluster }: { readonly engine: string; readonly onCluster: string }
): string => sql.replaceAll(/\$ON_CLUSTER|\$ENGINE/g, (name) => (name === "$ENGINE" ? engine : onCluster))

/** A string literal: ON CLUSTER takes no parameter. */
const quote = (text: string): string => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`

const REPLICATING_DATABASE = /^(Replicated|Shared)$/

/** In seconds: less than the request's own limit, whose error would not say which host is behind. */
const ddlTimeout = (requestTimeout: Duration.Duration): number =>
  Math.max(1, Math.floor(Duration.toSeconds(requestTimeout) * 0.8))

/** The statement stands in a queue in Keeper: hosts that were away run it when they are back. */
const notEverywhere = (cluster: string) => (error: SinkError) =>
  error.code === 159
    ? new SinkError({
        errorClass: error.errorClass,
        code: 159,
        reason: `Not every host of cluster ${cluster} has the table yet. Bring back those that are away and run "clickhouse-outbox migrate" again. ${error.reason}`,
        settled: error.settled
      })
    : error

/**
 * Creates ClickHouse's `event_log`, or does nothing if it is there. In a cluster it is created on each host, and this
 * returns when all of them have it.
 *
 * @since 0.1.0
 * @category migrations
 */
export const clickHouse = (
  config: Pick<Config.ClickHouse, "table"> & Partial<Pick<Config.ClickHouse, "cluster" | "requestTimeout">>
): Effect.Effect<void, SinkError, ClickHouse> =>
  Effect.gen(function* () {
    const server = yield* ClickHouse
    const { cluster = Option.none(), requestTimeout = Duration.minutes(2), table } = config
    const migrations = yield* files("clickhouse")
    if (Option.isNone(cluster)) {
      return yield* Effect.forEach(
        migrations,
        (file) => server.command(fillIn(file, { engine: "MergeTree", onCluster: "" }), { table }),
        { discard: true }
      )
    }
    const [database] = yield* server.query("SELECT engine FROM system.databases WHERE name = currentDatabase()")
    // A database that replicates its tables by itself does not take the clause.
    const onCluster = REPLICATING_DATABASE.test(String(database?.[0])) ? "" : `ON CLUSTER ${quote(cluster.value)}`
    yield* Effect.forEach(migrations, (file) =>
      server
        .command(
          fillIn(file, { engine: "ReplicatedMergeTree", onCluster }),
          { table },
          {
            settings: {
              distributed_ddl_task_timeout: ddlTimeout(requestTimeout),
              distributed_ddl_output_mode: "throw"
            }
          }
        )
        .pipe(Effect.mapError(notEverywhere(cluster.value)))
    )
  }).pipe(Effect.withSpan("Migrations.clickHouse"))

/** How long a program that starts waits for ClickHouse, so that its relay finds the table there. */
const CLICKHOUSE_WAIT = Duration.seconds(5)

const CLICKHOUSE_RETRIES = RetryPolicy.schedules({ retryBase: Duration.seconds(1), retryCap: Duration.seconds(30) })

/** Ends when ClickHouse was migrated. `tried` is done when that was tried once. */
const clickHouseUntilDone = (config: Config.ClickHouse, tried: Deferred.Deferred<void>) =>
  clickHouse(config).pipe(
    Effect.tapError((error) =>
      Effect.logWarning("ClickHouse was not migrated, which is tried again. Publishing goes on without it", error)
    ),
    Effect.ensuring(Deferred.succeed(tried, undefined)),
    Effect.retry(CLICKHOUSE_RETRIES.transient)
  )

/**
 * Migrates both databases: for programs that bring their schema along.
 *
 * The layers that are built on it have Postgres migrated. Publishing needs no more than that, and so a program starts
 * while ClickHouse is away: it is waited for no longer than 5 seconds, then migrated in the background as soon as it
 * answers. Until then warnings say why it was not, and relays keep what is published.
 *
 * @example
 * ```ts
 * import { Layer } from "effect"
 * import { ClickHouse, EventPublisher, Migrations, Postgres } from "clickhouse-outbox"
 *
 * const Live = EventPublisher.layerConfig.pipe(
 *   Layer.provideMerge(Migrations.layerConfig),
 *   Layer.provideMerge(Layer.merge(Postgres.layerConfig, ClickHouse.layerConfig))
 * )
 * ```
 * @since 0.1.0
 * @category layers
 */
export const layerConfig: Layer.Layer<
  never,
  ConfigError.ConfigError | MigrationFailed | SqlError | UnsuitableEncoding,
  ClickHouse | SqlClient.SqlClient
> = Layer.scopedDiscard(
  Effect.gen(function* () {
    const config = yield* Config.clickHouse
    yield* postgres
    const tried = yield* Deferred.make<void>()
    yield* Effect.forkScoped(clickHouseUntilDone(config, tried))
    yield* Effect.timeoutOption(Deferred.await(tried), CLICKHOUSE_WAIT)
  })
)
