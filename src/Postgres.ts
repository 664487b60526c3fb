/**
 * The connections to Postgres: one `pg` pool that serves SQL (`SqlClient`) and COPY alike.
 *
 * A stream from {@link Postgres.copyOut} that breaks fails; it never just ends, so what reads it cannot mistake half of
 * the rows for all of them.
 *
 * @since 0.1.0
 */
import * as NodeStream from "@effect/platform-node/NodeStream"
import type * as SqlClient from "@effect/sql/SqlClient"
import { SqlError } from "@effect/sql/SqlError"
import * as PgClient from "@effect/sql-pg/PgClient"
import type * as ConfigError from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Pg from "pg"
import * as PgCopy from "pg-copy-streams"
import * as Config from "./Config.ts"
import { OPTIONS, stating } from "./internal/meaning.ts"
import { CopyOut } from "./Postgres/CopyOut.ts"

/**
 * How many connections there are, by what they do, and how many statements wait for one.
 *
 * @since 0.1.0
 * @category models
 */
export interface Connections {
  readonly used: number
  readonly idle: number
  readonly waiting: number
}

/**
 * @since 0.1.0
 * @category tags
 */
export class Postgres extends Context.Tag("clickhouse-outbox/Postgres")<
  Postgres,
  {
    /**
     * Streams what `COPY (query) TO STDOUT` prints, in a read-only transaction of its own that `settings` apply to.
     * The stream ends only after Postgres has confirmed the whole copy: `onComplete` gets the number of rows and may
     * still fail it.
     */
    readonly copyOut: <E>(options: {
      readonly query: string
      readonly settings: string
      readonly onComplete: (rowCount: number) => Effect.Effect<void, E>
    }) => Stream.Stream<Uint8Array, SqlError | E>
    /**
     * Feeds `rows` to `COPY … FROM STDIN` in one transaction of its own and returns the number of rows copied.
     * Whatever fails, the stream included, rolls everything back.
     */
    readonly copyIn: <E, R>(
      statement: string,
      rows: Stream.Stream<Uint8Array, E, R>
    ) => Effect.Effect<number, SqlError | E, R>
    /** The connections of the pool. */
    readonly connections: Effect.Effect<Connections>
  }
>() {}

const sqlError = (message: string) => (cause: unknown) => new SqlError({ cause, message })

const run = (client: Pg.PoolClient, text: string): Effect.Effect<void, SqlError> =>
  Effect.tryPromise({ try: () => client.query(text), catch: sqlError("Failed to execute statement") })

/**
 * A connection that nobody else uses, in a transaction. Unless that is committed, the connection is closed and not
 * reused.
 */
const transaction = (pool: Pg.Pool, begin: string) =>
  Effect.gen(function* () {
    let committed = false
    const client = yield* Effect.acquireRelease(
      Effect.tryPromise({ try: () => pool.connect(), catch: sqlError("Failed to acquire connection") }),
      (client) => Effect.sync(() => client.release(!committed))
    )
    // pg emits the loss of a connection here, too, besides failing the statement; without a listener the process would
    // end.
    const onError = () => {}
    yield* Effect.acquireRelease(
      Effect.sync(() => client.on("error", onError)),
      () => Effect.sync(() => client.off("error", onError))
    )
    yield* run(client, begin)
    const commit = Effect.tap(run(client, "COMMIT"), () => {
      committed = true
    })
    return { client, commit }
  })

const copyOut =
  (pool: Pg.Pool): typeof Postgres.Service.copyOut =>
  ({ onComplete, query, settings }) =>
    Effect.gen(function* () {
      const { client, commit } = yield* transaction(
        pool,
        `BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY NOT DEFERRABLE; ${stating(settings)}`
      )
      const copy = client.query(new CopyOut(`COPY (${query}) TO STDOUT`))
      // pg emits here that the connection was closed below; without a listener the process would end.
      copy.on("error", () => {})
      const rows = NodeStream.fromReadable<SqlError, Uint8Array>(() => copy, sqlError("Failed to copy from Postgres"))
      // The last row comes before the server says whether that was all; the answer to COMMIT comes after it.
      const confirmed = Effect.andThen(commit, () => onComplete(copy.rowCount))
      return Stream.concat(rows, Stream.execute(confirmed))
    }).pipe(Stream.unwrapScoped)

const copyIn =
  (pool: Pg.Pool): typeof Postgres.Service.copyIn =>
  (statement, rows) =>
    Effect.gen(function* () {
      const { client, commit } = yield* transaction(
        pool,
        `BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE NOT DEFERRABLE; ${stating("")}`
      )
      const copy = client.query(PgCopy.from(statement))
      // Listened to until the end: an error without a listener, such as that of a connection closed below, would end
      // the process.
      const failed = Effect.async<never, SqlError>((resume) => {
        copy.on("error", (cause) => resume(sqlError("Failed to copy to Postgres")(cause)))
      })
      // Called back when the socket has taken the bytes, so that no more than these are in memory. NodeSink does not
      // wait.
      const write = (bytes: Uint8Array) =>
        Effect.async<void>((resume) => {
          copy.write(bytes, () => resume(Effect.void))
        })
      const end = Effect.async<void>((resume) => {
        copy.end(() => resume(Effect.void))
      })
      yield* Stream.runForEach(rows, write).pipe(Effect.zipRight(end), Effect.raceFirst(failed))
      yield* commit
      return copy.rowCount
    }).pipe(Effect.scoped)

/** @internal */
export const make = (pool: Pg.Pool): typeof Postgres.Service => ({
  copyOut: copyOut(pool),
  copyIn: copyIn(pool),
  connections: Effect.sync(() => ({
    used: pool.totalCount - pool.idleCount,
    idle: pool.idleCount,
    waiting: pool.waitingCount
  }))
})

const acquirePool = (
  config: Config.Postgres,
  {
    applicationName,
    keepName = true,
    options: parameters
  }: {
    readonly applicationName: string
    /** Whether one in `DATABASE_URL` is instead of it. */
    readonly keepName?: boolean
    readonly options?: string
  }
): Effect.Effect<Pg.Pool, SqlError, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.try({
      try: () => {
        const options = {
          connectionString: keepName ? Redacted.value(config.url) : withoutName(Redacted.value(config.url)),
          max: config.maxConnections,
          connectionTimeoutMillis: Duration.toMillis(config.connectTimeout),
          application_name: applicationName,
          ...(parameters !== undefined && { options: parameters }),
          // A server that vanished is noticed in minutes, not in the two hours that are the system's default.
          keepAlive: true,
          keepAliveInitialDelayMillis: 10_000
        }
        // Reads the certificates that the URL names: the pool would throw what is wrong with them as a defect, at each
        // connect.
        new Pg.Client(options)
        return new Pg.Pool(options).on("error", () => {})
      },
      catch: sqlError("DATABASE_URL cannot be used")
    }),
    (pool) => Effect.promise(() => pool.end()).pipe(Effect.interruptible, Effect.timeoutOption("5 seconds"))
  )

/** What pg finds in a URL it takes instead of all else. */
const withoutName = (text: string): string => {
  const url = new URL(text)
  url.searchParams.delete("application_name")
  return url.href
}

/**
 * On a pool that the program has already. A relay needs one connection for each worker and two more. Somebody must
 * listen to the pool's `error` events.
 *
 * @example
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { Pool } from "pg"
 * import { EventPublisher, Postgres } from "clickhouse-outbox"
 *
 * const pool = new Pool({ connectionString: process.env.DATABASE_URL, max: 10 }).on("error", console.error)
 *
 * const PublisherLive = EventPublisher.layerConfig.pipe(
 *   Layer.provideMerge(Postgres.layerFromPool(Effect.succeed(pool)))
 * )
 * ```
 * @since 0.1.0
 * @category layers
 */
export const layerFromPool = <E>(
  acquire: Effect.Effect<Pg.Pool, E, Scope.Scope>
): Layer.Layer<Postgres | PgClient.PgClient | SqlClient.SqlClient, E | SqlError> =>
  Layer.unwrapScoped(
    Effect.map(acquire, (pool) =>
      Layer.merge(Layer.succeed(Postgres, make(pool)), PgClient.layerFromPool({ acquire: Effect.succeed(pool) }))
    )
  )

/**
 * A pool of its own. Connections are opened when needed, so a Postgres that is down fails the first statement, not the
 * layer.
 *
 * @param applicationName what `pg_stat_activity` shows
 * @since 0.1.0
 * @category layers
 */
export const layer = (
  config: Config.Postgres,
  applicationName = "clickhouse-outbox"
): Layer.Layer<Postgres | PgClient.PgClient | SqlClient.SqlClient, SqlError> =>
  layerFromPool(acquirePool(config, { applicationName }))

/**
 * {@link layer} for programs that run nothing but this library's statements, which name the schema of everything: what a
 * session's settings must be is stated when it begins. By a parameter of the connection, because what is SET would stay
 * with a pooler's connection for whoever has it next. `options` in `DATABASE_URL` are instead of these.
 *
 * @param relayName a relay is known by the name of its connections, whatever name `DATABASE_URL` has
 * @internal
 */
export const layerPinned = (config: Config.Postgres, relayName?: string): ReturnType<typeof layer> =>
  layerFromPool(
    acquirePool(config, {
      applicationName: relayName ?? "clickhouse-outbox",
      keepName: relayName === undefined,
      options: `${process.env.PGOPTIONS ?? ""} ${OPTIONS}`.trim()
    })
  )

/**
 * {@link layer} from the environment: `DATABASE_URL`, `DATABASE_MAX_CONNECTIONS`, `DATABASE_CONNECT_TIMEOUT`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig: Layer.Layer<
  Postgres | PgClient.PgClient | SqlClient.SqlClient,
  ConfigError.ConfigError | SqlError
> = Layer.unwrapEffect(Effect.map(Config.postgres, (config) => layer(config)))
