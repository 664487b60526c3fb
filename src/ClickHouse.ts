/**
 * The connection to ClickHouse over HTTP: `@clickhouse/client` as Effects, every failure classified.
 *
 * @since 0.1.0
 */
import { randomUUID } from "node:crypto"
import { readFileSync } from "node:fs"
import { Readable } from "node:stream"
import { type ClickHouseClient, ClickHouseLogLevel, createClient, type ExecParams } from "@clickhouse/client"
import * as NodeStream from "@effect/platform-node/NodeStream"
import type * as ConfigError from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Config from "./Config.ts"
import { escapeField, escapeQuoted } from "./internal/escape.ts"
import * as Plaintext from "./internal/plaintext.ts"
import { fromAnswer, fromBrokenAnswer, fromConnection, SinkError } from "./SinkError.ts"

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
     * Sends rows in one request and returns when ClickHouse has answered, with the number of rows that it has written;
     * none if the answer does not say so. If the stream fails the request is broken off, of which ClickHouse stores
     * nothing, and the stream's error is returned.
     */
    readonly insert: <E>(insert: Insert<E>) => Effect.Effect<Option.Option<number>, SinkError | E>
  }
>() {}

/**
 * Sent with every request. The server, the user's profile and its `compatibility` may set anything, and what a request
 * means must not depend on it: docs/architecture.md#surroundings. Limits are left to them: one may refuse a request, and
 * none may cut an answer short. All of these are known to each version that is supported, as an unknown one is refused.
 */
const STATED: Settings = {
  compatibility: "",
  dialect: "clickhouse",
  // The answer comes when the statement has ended, with the status and the numbers that are final.
  wait_end_of_query: 1,
  send_progress_in_http_headers: 0,
  http_write_exception_in_output_format: 0,
  // All of the answer,
  limit: 0,
  offset: 0,
  extremes: 0,
  read_overflow_mode: "throw",
  read_overflow_mode_leaf: "throw",
  group_by_overflow_mode: "throw",
  sort_overflow_mode: "throw",
  result_overflow_mode: "throw",
  timeout_overflow_mode: "throw",
  timeout_overflow_mode_leaf: "throw",
  set_overflow_mode: "throw",
  join_overflow_mode: "throw",
  transfer_overflow_mode: "throw",
  distinct_overflow_mode: "throw",
  empty_result_for_aggregation_by_empty_set: 0,
  aggregate_functions_null_for_empty: 0,
  // from all of the table,
  additional_table_filters: "{}",
  additional_result_filter: "",
  final: 0,
  apply_deleted_mask: 1,
  distributed_group_by_no_merge: 0,
  skip_unavailable_shards: 0,
  // as this server has it now,
  use_query_cache: 0,
  allow_experimental_parallel_reading_from_replicas: 0,
  max_parallel_replicas: 1,
  // whichever index it can use for that.
  force_index_by_date: 0,
  force_primary_key: 0,
  force_optimize_projection: 0,
  // A time without a zone is UTC: also in a column that has none, whatever the server's own is.
  session_timezone: "UTC",
  // Columns are created as the statement has them.
  data_type_default_nullable: 0
}

const timedOut = (after: Duration.Duration) =>
  new SinkError({ errorClass: "in-doubt", reason: `no answer within ${Duration.format(after)}`, settled: false })

/** Rows may be compressed on their way. A question is not: its parameters could not be read. */
interface Clients {
  readonly ask: ClickHouseClient
  readonly insert: ClickHouseClient
}

const make = ({ ask, insert }: Clients, requestTimeout: Duration.Duration): typeof ClickHouse.Service => {
  /** Interruption aborts the request. */
  const request: Request = (client, exec) =>
    Effect.tryPromise({
      try: (abort_signal) => {
        // Each time that it is run: a body is read once.
        const made = exec()
        return client.exec({
          ...made,
          abort_signal,
          clickhouse_settings: { ...STATED, ...made.clickhouse_settings },
          // The client shortens the text of an error, damages the row number in it, and forgets the status.
          ignore_error_response: true
        })
      },
      catch: fromConnection
    }).pipe(
      Effect.flatMap(({ http_status_code = 200, response_headers, stream, summary }) =>
        Effect.map(
          Effect.tryPromise({ try: () => stream.toArray(), catch: fromBrokenAnswer }).pipe(
            Effect.onInterrupt(() => Effect.sync(() => stream.destroy()))
          ),
          (chunks): Answer => ({
            status: http_status_code,
            text: Buffer.concat(chunks).toString() || elsewhere(http_status_code, response_headers.location),
            writtenRows: Option.map(Option.fromNullable(summary?.written_rows), Number)
          })
        )
      ),
      Effect.timeoutFail({ duration: requestTimeout, onTimeout: () => timedOut(requestTimeout) })
    )

  const toExec = ({ sessionId, settings }: Options = {}) => ({
    ...(settings && { clickhouse_settings: settings }),
    ...(sessionId !== undefined && { session_id: sessionId })
  })

  return {
    command: (statement, parameters = {}, options) =>
      Effect.flatMap(
        request(ask, () => ({ query: statement, query_params: { ...parameters }, ...toExec(options) })),
        ({ status, text }) => (status === 200 ? Effect.void : fromAnswer(status, text))
      ),
    query: (statement, parameters = {}, options) =>
      Effect.flatMap(
        request(ask, () => ({ ...toForm(`${statement}\nFORMAT JSONCompact`, parameters), ...toExec(options) })),
        ({ status, text }) => (status === 200 ? readRows(text) : fromAnswer(status, text))
      ),
    insert: (insertion) => sendRows(insert, request, insertion)
  }
}

type Exec = Pick<
  ExecParams,
  "query" | "query_params" | "query_id" | "clickhouse_settings" | "session_id" | "http_headers"
> & { readonly values?: Readable }

interface Answer {
  readonly status: number
  readonly text: string
  readonly writtenRows: Option.Option<number>
}

type Request = (client: ClickHouseClient, exec: () => Exec) => Effect.Effect<Answer, SinkError>

/** What redirects says no more than where to, and is not followed: an insert would arrive there without its rows. */
const elsewhere = (status: number, location: string | ReadonlyArray<string> | undefined): string =>
  status >= 300 && status < 400 && location !== undefined ? `it redirects to ${location}` : ""

/** As `multipart/form-data`: in a URL a list of ids would be too long. */
const toForm = (statement: string, parameters: Parameters) => {
  const boundary = `clickhouse-outbox-${randomUUID()}`
  const parts = Object.entries(parameters).map(([name, value]) => [`param_${name}`, formatParameter(value)] as const)
  const body = [["query", statement] as const, ...parts].map(
    ([name, value]) => `--${boundary}\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`
  )
  return {
    // It is in the form.
    query: "",
    values: Readable.from([`${body.join("")}--${boundary}--\r\n`]),
    http_headers: { "Content-Type": `multipart/form-data; boundary=${boundary}` }
  }
}

const formatParameter = (value: Parameters[string]): string =>
  typeof value === "object" ? `[${value.map((text) => `'${escapeQuoted(text)}'`).join()}]` : escapeField(String(value))

const Rows = Schema.parseJson(
  Schema.Struct({ data: Schema.Array(Schema.Array(Schema.Unknown)), rows: Schema.Int }).pipe(
    Schema.filter(({ data, rows }) => data.length === rows)
  )
)

/** JSON that does not end is an answer that was cut off. What is no JSON is not ClickHouse's. */
const readRows = (text: string): Effect.Effect<ReadonlyArray<ReadonlyArray<unknown>>, SinkError> =>
  Schema.decodeUnknown(Rows)(text).pipe(
    Effect.map(({ data }) => data),
    Effect.mapError(() =>
      text.startsWith("{") ? fromBrokenAnswer(new Error("it is not whole")) : fromAnswer(200, text)
    )
  )

const sendRows = <E>(
  client: ClickHouseClient,
  request: Request,
  { parameters, queryId, rows, settings, statement }: Insert<E>
): Effect.Effect<Option.Option<number>, SinkError | E> =>
  Effect.gen(function* () {
    // The client reports a broken body as an error of its own; the stream's is the one that says why.
    const broken = yield* Deferred.make<never, SinkError | E>()
    const values = yield* rows.pipe(
      Stream.tapErrorCause((cause) => Deferred.failCause(broken, cause)),
      NodeStream.toReadable
    )
    const { status, text, writtenRows } = yield* request(client, () => ({
      query: statement,
      values,
      query_params: { ...parameters },
      query_id: queryId,
      clickhouse_settings: { ...settings }
    })).pipe(
      Effect.catchAll((error) =>
        Effect.flatMap(Deferred.isDone(broken), (done) => (done ? Deferred.await(broken) : Effect.fail(error)))
      ),
      Effect.raceFirst(Deferred.await(broken)),
      Effect.ensuring(Effect.sync(() => values.destroy()))
    )
    if (status !== 200 || text.length > 0) return yield* fromAnswer(status, text)
    return writtenRows
  })

const acquireClient = (
  config: Config.ClickHouse,
  compressed: boolean
): Effect.Effect<ClickHouseClient, SinkError, Scope.Scope> =>
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
          compression: { request: compressed, response: false },
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

const warnOfPlaintext = ({ url }: Config.ClickHouse): Effect.Effect<void> => {
  const { hostname, protocol } = new URL(Redacted.value(url))
  return protocol === "https:"
    ? Effect.void
    : Plaintext.warn({ host: hostname, name: "ClickHouse", set: "Set CLICKHOUSE_URL to its https: address" })
}

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
    Effect.all({
      ask: acquireClient(config, false),
      insert: acquireClient(config, config.compression === "gzip")
    }).pipe(
      Effect.zipLeft(warnOfPlaintext(config)),
      Effect.map((clients) => make(clients, config.requestTimeout))
    )
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
