/**
 * The connection to ClickHouse over HTTP: `@clickhouse/client` as Effects, every failure classified.
 *
 * @since 0.1.0
 */
import { readFileSync } from "node:fs"
import { type ClickHouseClient, ClickHouseError, ClickHouseLogLevel, createClient } from "@clickhouse/client"
import * as NodeStream from "@effect/platform-node/NodeStream"
import type * as ConfigError from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Config from "./Config.ts"
import { fromAnswer, fromConnection, SinkError } from "./SinkError.ts"

/** Values of a statement's `{name:Type}` parameters. */
export type Parameters = Readonly<Record<string, string | number | ReadonlyArray<string>>>

/** https://clickhouse.com/docs/operations/settings/settings */
export type Settings = Readonly<Record<string, string | number>>

/** What goes with a statement. */
export interface Options {
  readonly settings?: Settings
  /** Requests of one session are answered by one server, or refused with code 372 where they ask for `session_check`. */
  readonly sessionId?: string
}

/** An `INSERT … FORMAT …` and the rows that follow it. */
export interface Insert<E> {
  readonly statement: string
  readonly parameters: Parameters
  readonly settings: Settings
  readonly queryId: string
  readonly rows: Stream.Stream<Uint8Array, E>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class ClickHouse extends Context.Tag("clickhouse-outbox/ClickHouse")<
  ClickHouse,
  {
    /** Runs a statement that answers nothing, such as DDL. */
    readonly command: (statement: string, parameters?: Parameters, options?: Options) => Effect.Effect<void, SinkError>
    /** Runs a query and returns its rows, each an array of columns. */
    readonly query: (
      statement: string,
      parameters?: Parameters,
      options?: Options
    ) => Effect.Effect<ReadonlyArray<ReadonlyArray<unknown>>, SinkError>
    /**
     * Sends rows in one request and returns when ClickHouse has answered. If the stream fails the request is broken
     * off, of which ClickHouse stores nothing, and the stream's error is returned.
     */
    readonly insert: <E>(insert: Insert<E>) => Effect.Effect<void, SinkError | E>
  }
>() {}

const classify = (cause: unknown): SinkError =>
  cause instanceof ClickHouseError ? fromAnswer(200, `Code: ${cause.code}. ${cause.message}`) : fromConnection(cause)

const timedOut = (after: Duration.Duration) =>
  new SinkError({ errorClass: "in-doubt", reason: `no answer within ${Duration.format(after)}`, settled: false })

const make = (client: ClickHouseClient, requestTimeout: Duration.Duration): typeof ClickHouse.Service => {
  /** Interruption aborts the request. */
  const request: Request = (send) =>
    Effect.tryPromise({ try: send, catch: classify }).pipe(
      Effect.timeoutFail({ duration: requestTimeout, onTimeout: () => timedOut(requestTimeout) })
    )

  return {
    command: (statement, parameters, options) =>
      request((abort_signal) =>
        client.command({
          query: statement,
          abort_signal,
          ...(parameters && { query_params: parameters }),
          ...toRequest(options)
        })
      ).pipe(Effect.asVoid),

    query: (statement, parameters, options) =>
      request(async (abort_signal) => {
        const result = await client.query({
          query: statement,
          format: "JSONCompact",
          abort_signal,
          // In the body, because a list of ids is too long for a URL.
          use_multipart_params: true,
          ...(parameters && { query_params: parameters }),
          ...toRequest(options)
        })
        return (await result.json<ReadonlyArray<unknown>>()).data
      }),

    insert: insert(client, request)
  }
}

const toRequest = ({ sessionId, settings }: Options = {}) => ({
  ...(settings && { clickhouse_settings: { ...settings } }),
  ...(sessionId !== undefined && { session_id: sessionId })
})

type Request = <A>(send: (signal: AbortSignal) => Promise<A>) => Effect.Effect<A, SinkError>

const insert =
  (client: ClickHouseClient, request: Request) =>
  <E>({ parameters, queryId, rows, settings, statement }: Insert<E>): Effect.Effect<void, SinkError | E> =>
    Effect.gen(function* () {
      // The client reports a broken body as an error of its own; the stream's is the one that says why.
      const broken = yield* Deferred.make<never, SinkError | E>()
      const values = yield* rows.pipe(
        Stream.tapErrorCause((cause) => Deferred.failCause(broken, cause)),
        NodeStream.toReadable
      )
      const sent = request(async (abort_signal) => {
        const { http_status_code, stream } = await client.exec({
          query: statement,
          values,
          query_params: { ...parameters },
          query_id: queryId,
          clickhouse_settings: { ...settings },
          abort_signal,
          // The client shortens the text of an error and damages the row number in it.
          ignore_error_response: true
        })
        return { status: http_status_code ?? 200, text: Buffer.concat(await stream.toArray()).toString() }
      })
      const { status, text } = yield* sent.pipe(
        Effect.catchAll((error) =>
          Effect.flatMap(Deferred.isDone(broken), (done) => (done ? Deferred.await(broken) : Effect.fail(error)))
        ),
        Effect.raceFirst(Deferred.await(broken)),
        Effect.ensuring(Effect.sync(() => values.destroy()))
      )
      if (status !== 200 || text.length > 0) return yield* fromAnswer(status, text)
    })

const acquireClient = (config: Config.ClickHouse): Effect.Effect<ClickHouseClient, SinkError, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.try({
      try: () =>
        createClient({
          url: Redacted.value(config.url),
          ...Option.match(config.username, { onNone: () => ({}), onSome: (username) => ({ username }) }),
          ...Option.match(config.password, {
            onNone: () => ({}),
            onSome: (password) => ({ password: Redacted.value(password) })
          }),
          ...Option.match(config.database, { onNone: () => ({}), onSome: (database) => ({ database }) }),
          ...Option.match(config.caFile, {
            onNone: () => ({}),
            onSome: (caFile) => ({ tls: { ca_cert: readFileSync(caFile) } })
          }),
          application: "clickhouse-outbox",
          // Longer than this module's own limit, whose error says more.
          request_timeout: Duration.toMillis(config.requestTimeout) + 1_000,
          compression: { request: config.compression === "gzip", response: false },
          log: { level: ClickHouseLogLevel.OFF }
        }),
      catch: (cause) =>
        new SinkError({
          errorClass: "configuration",
          reason: `the client cannot be set up: ${cause instanceof Error ? cause.message : cause}`,
          settled: true
        })
    }),
    (client) => Effect.promise(() => client.close())
  )

/**
 * Connections are opened when needed, so a ClickHouse that is down fails the first request, not the layer.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { ClickHouse } from "clickhouse-outbox"
 *
 * const countOf = (eventType: string) =>
 *   Effect.gen(function* () {
 *     const { query } = yield* ClickHouse.ClickHouse
 *     const [row] = yield* query("SELECT uniqExact(event_id) FROM event_log WHERE event_type = {eventType:String}", {
 *       eventType
 *     })
 *     return Number(row?.[0])
 *   }).pipe(Effect.provide(ClickHouse.layerConfig))
 * ```
 * @since 0.1.0
 * @category layers
 */
export const layer = (config: Config.ClickHouse): Layer.Layer<ClickHouse, SinkError> =>
  Layer.scoped(
    ClickHouse,
    Effect.map(acquireClient(config), (client) => make(client, config.requestTimeout))
  )

/**
 * {@link layer} from the environment: `CLICKHOUSE_URL` and the other `CLICKHOUSE_…` variables.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig: Layer.Layer<ClickHouse, ConfigError.ConfigError | SinkError> = Layer.unwrapEffect(
  Effect.map(Config.clickHouse, layer)
)
