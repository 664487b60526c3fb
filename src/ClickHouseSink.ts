/**
 * ClickHouse's `event_log`: takes a batch as bytes, and can be asked which events it holds.
 *
 * An insert is one block under one token: it is in the table whole or not at all, and repeated with the same token it
 * changes nothing, as long as the table's de-duplication window remembers the token. Safe to call from any number of
 * workers. Knows nothing of Postgres.
 *
 * @since 0.1.0
 */
import { randomUUID } from "node:crypto"
import * as Arr from "effect/Array"
import * as Clock from "effect/Clock"
import type * as ConfigError from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as Schedule from "effect/Schedule"
import type * as Stream from "effect/Stream"
import type { Batch } from "./Batch.ts"
import { ClickHouse, type Options, type Settings } from "./ClickHouse.ts"
import * as Config from "./Config.ts"
import type { EventId } from "./Event.ts"
import { SinkError } from "./SinkError.ts"

/**
 * A token is forgotten when it is beyond one of these.
 *
 * @since 0.1.0
 * @category models
 */
export interface DeduplicationWindow {
  /** An insert makes a part for each month that it has events of. */
  readonly parts: number
  /** Infinite unless the table is replicated. */
  readonly age: Duration.Duration
}

/**
 * @since 0.1.0
 * @category tags
 */
export class ClickHouseSink extends Context.Tag("clickhouse-outbox/ClickHouseSink")<
  ClickHouseSink,
  {
    /**
     * Inserts rows in TabSeparated under a de-duplication token. If the stream fails, nothing was inserted. Fails if
     * the table could not de-duplicate.
     */
    readonly insert: <E>(token: string, rows: Stream.Stream<Uint8Array, E>) => Effect.Effect<void, SinkError | E>
    /**
     * Those of the batch's events that are not in the table. Answered through the table's primary key, by a server that
     * has all that was committed before: one that lags behind fails.
     */
    readonly missing: (
      batch: Batch,
      eventIds: ReadonlyArray<EventId>
    ) => Effect.Effect<ReadonlyArray<EventId>, SinkError>
    /** Succeeds if the server answers and has a table that can take events. */
    readonly check: Effect.Effect<void, SinkError>
    /** How far back the table remembers tokens. */
    readonly deduplicationWindow: Effect.Effect<DeduplicationWindow, SinkError>
    /**
     * Whether an insert under the token is running on the server, or on any of the cluster's. One of which less than
     * 1 kB arrived is not seen.
     */
    readonly isInserting: (token: string) => Effect.Effect<boolean, SinkError>
  }
>() {}

const COLUMNS = "event_type, event_date_time, environment, event_context, metadata_version, event_id, trace_id"

/**
 * The same for every insert: the token only works if a repeated batch is cut into the same blocks, so it is cut into
 * one. https://clickhouse.com/docs/guides/developer/deduplicating-inserts-on-retries
 */
const INSERT_SETTINGS: Settings = {
  async_insert: 0,
  insert_deduplicate: 1,
  // A repeat reaches the tables of materialized views too; those that have a window drop it likewise.
  deduplicate_blocks_in_dependent_materialized_views: 1,
  // A backfill of a hundred months and more is one block all the same.
  max_partitions_per_insert_block: 0,
  max_insert_block_size: "1000000000",
  min_insert_block_size_rows: "1000000000",
  min_insert_block_size_bytes: "1000000000000",
  // Strings inside the JSON that look like dates stay the strings they are.
  input_format_try_infer_datetimes: 0,
  input_format_try_infer_dates: 0,
  // So do booleans beside numbers or strings in an array.
  input_format_json_read_bools_as_numbers: 0,
  input_format_json_read_bools_as_strings: 0,
  // {"a.b": 1} and {"a": {"b": 1}} stay different.
  json_type_escape_dots_in_keys: 1,
  // An insert is listed as running only once so many bytes of its body are there: see isInserting.
  max_query_size: 1_000,
  // A refusal names the first row that is bad: of rows that are parsed in parallel it may be a later one.
  input_format_parallel_parsing: 0,
  // The answer is the final one.
  wait_end_of_query: 1
}

/** ClickHouse's `http_max_field_value_size` admits 128 KiB in one parameter; an id in a list takes 39 bytes. */
const IDS_PER_QUERY = 2_000
/** The question is answered without the types too, only slower. */
const MAX_TYPES_BYTES = 65_536

/** How often a balancer may send a question elsewhere than the request before it. */
const OTHER_SERVERS = 20

/** How long it is believed that the table is as it was. */
const TABLE_CHECK_TTL = Duration.minutes(1)

/**
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  config: Pick<Config.ClickHouse, "table" | "requestTimeout" | "cluster">
): Effect.Effect<typeof ClickHouseSink.Service, never, ClickHouse> =>
  Effect.gen(function* () {
    const clickHouse = yield* ClickHouse
    const { table } = config
    // Not a Cache, in which one worker's interruption is every waiting worker's.
    const known = yield* Ref.make(Option.none<{ readonly state: TableState; readonly until: number }>())
    const tableState = Effect.gen(function* () {
      const now = yield* Clock.currentTimeMillis
      const fresh = Option.filter(yield* Ref.get(known), ({ until }) => now < until)
      if (Option.isSome(fresh)) return fresh.value.state
      const state = yield* readTableState(clickHouse, config)
      yield* Ref.set(known, Option.some({ state, until: now + Duration.toMillis(TABLE_CHECK_TTL) }))
      return state
    })
    const deduplicationWindow = Effect.map(tableState, ({ window }) => window)

    const insert = <E>(token: string, rows: Stream.Stream<Uint8Array, E>) =>
      Effect.zipRight(
        tableState,
        clickHouse.insert({
          statement: `INSERT INTO {table:Identifier} (${COLUMNS}) FORMAT TabSeparated`,
          parameters: { table },
          settings: {
            ...INSERT_SETTINGS,
            insert_deduplication_token: token,
            // Nothing of an attempt that was given up goes on for long.
            max_execution_time: Math.ceil(Duration.toSeconds(config.requestTimeout))
          },
          queryId: `${token}/${randomUUID()}`,
          rows
        })
      ).pipe(
        Effect.withSpan("ClickHouseSink.insert", { kind: "client", attributes: { "db.system.name": "clickhouse" } })
      )

    const missing = (batch: Batch, eventIds: ReadonlyArray<EventId>) => {
      const fewTypes = Buffer.byteLength(JSON.stringify(batch.eventTypes)) <= MAX_TYPES_BYTES
      const ask = (ids: ReadonlyArray<EventId>, options?: Options) =>
        clickHouse.query(
          `SELECT DISTINCT toString(event_id)
           FROM {table:Identifier}
           WHERE ${fewTypes ? "event_type IN {event_types:Array(String)}" : "true"}
             AND event_date_time >= {first:DateTime64(6, 'UTC')} - INTERVAL 1 SECOND
             AND event_date_time <= {last:DateTime64(6, 'UTC')}
             AND event_id IN {ids:Array(UUID)}`,
          {
            table,
            event_types: fewTypes ? batch.eventTypes : [],
            first: batch.firstEventDateTime,
            last: batch.lastEventDateTime,
            ids
          },
          options
        )
      return Effect.flatMap(tableState, (state) => withNothingBehind(clickHouse, config, state)).pipe(
        Effect.flatMap((current) =>
          Effect.forEach(Arr.chunksOf(eventIds, IDS_PER_QUERY), (ids) => current((options) => ask(ids, options)))
        ),
        Effect.map((answers) => new Set(answers.flat().map(([id]) => id))),
        Effect.map((present) => eventIds.filter((id) => !present.has(id))),
        Effect.mapError(unanswered),
        Effect.withSpan("ClickHouseSink.missing", { kind: "client" })
      )
    }

    const isInserting = (token: string) =>
      clickHouse
        .query(
          `SELECT count()
           FROM ${Option.isSome(config.cluster) ? "clusterAllReplicas({cluster:String}, system.processes)" : "system.processes"}
           WHERE startsWith(query_id, {token:String})`,
          { token, ...Option.match(config.cluster, { onNone: () => ({}), onSome: (cluster) => ({ cluster }) }) },
          // A server that does not answer may run one.
          { settings: { skip_unavailable_shards: 0 } }
        )
        .pipe(
          Effect.map((rows) => Number(rows[0]?.[0]) > 0),
          Effect.mapError(unanswered)
        )

    const check = Effect.asVoid(readTableState(clickHouse, config))

    return { insert, missing, check, deduplicationWindow, isInserting }
  })

/** By the class of what went wrong with the question. */
const UNANSWERED = {
  data: "unknown",
  transient: "in-doubt",
  "in-doubt": "in-doubt",
  configuration: "configuration",
  unknown: "unknown"
} as const

/** A question that fails says nothing of a batch: what it was to settle stays in doubt, and its data is not at fault. */
const unanswered = (error: SinkError): SinkError =>
  new SinkError({
    errorClass: UNANSWERED[error.errorClass],
    reason: error.reason,
    settled: false,
    ...(error.code !== undefined && { code: error.code })
  })

/** Which servers have the table's data. */
type Replication = "none" | "replicated" | "shared"

interface TableState {
  readonly window: DeduplicationWindow
  readonly replication: Replication
}

/** Asks a question of a server that has all that was committed before. */
type Current = <A>(ask: (options?: Options) => Effect.Effect<A, SinkError>) => Effect.Effect<A, SinkError>

/**
 * Waits until a server has nothing of the table left to fetch, and returns how to ask that server.
 *
 * A balancer may send each request elsewhere. A session exists on one server only, and whoever is asked in it without
 * having it refuses.
 */
const withNothingBehind = (
  clickHouse: typeof ClickHouse.Service,
  { requestTimeout, table }: Pick<Config.ClickHouse, "table" | "requestTimeout">,
  { replication }: TableState
): Effect.Effect<Current, SinkError> => {
  if (replication === "none") return Effect.succeed<Current>((ask) => ask())
  if (replication === "shared") {
    return Effect.succeed<Current>((ask) => ask({ settings: { select_sequential_consistency: 1 } }))
  }
  return Effect.suspend(() => {
    const sessionId = randomUUID()
    const current: Current = (ask) =>
      ask({ sessionId, settings: { session_check: 1 } }).pipe(
        Effect.retry({
          while: ({ code }) => code === SESSION_NOT_FOUND || code === SESSION_IS_LOCKED,
          schedule: Schedule.recurs(OTHER_SERVERS).pipe(Schedule.addDelay(() => "10 millis"))
        }),
        Effect.mapError((error) => {
          if (error.code === SESSION_NOT_FOUND) return askedElsewhere
          return error.code === SESSION_IS_LOCKED ? stillBusy(error) : error
        })
      )
    return clickHouse
      .command(
        "SYSTEM SYNC REPLICA {table:Identifier} LIGHTWEIGHT",
        { table },
        // How long it waits: less than the request's own limit, so that it is ClickHouse that says why.
        { sessionId, settings: { receive_timeout: Math.max(1, Math.floor(Duration.toSeconds(requestTimeout) / 2)) } }
      )
      .pipe(Effect.as(current))
  })
}

const SESSION_NOT_FOUND = 372
const SESSION_IS_LOCKED = 373

/** With the request before, which has been answered. */
const stillBusy = ({ reason }: SinkError) =>
  new SinkError({ errorClass: "in-doubt", code: SESSION_IS_LOCKED, reason, settled: false })

const askedElsewhere = new SinkError({
  errorClass: "in-doubt",
  code: SESSION_NOT_FOUND,
  reason: `CLICKHOUSE_URL leads to another server with each request: ${OTHER_SERVERS} in a row did not reach the one that was found to lag behind no more`,
  settled: false
})

/** A table that would accept a repeated batch once more, or whose servers cannot all be asked, is refused. */
const readTableState = (
  clickHouse: typeof ClickHouse.Service,
  { cluster, table }: Pick<Config.ClickHouse, "table" | "cluster">
): Effect.Effect<TableState, SinkError> =>
  clickHouse
    .query(
      // What the table sets comes before what the server has as its default.
      `SELECT
         engine,
         engine_full,
         (SELECT arrayStringConcat(groupArray(name || ' = ' || value), ', ') FROM system.merge_tree_settings),
         (SELECT arrayStringConcat(groupArray(name || ' = ' || value), ', ') FROM system.replicated_merge_tree_settings),
         (SELECT any(value) FROM system.settings WHERE name = 'deduplicate_insert')
       FROM system.tables
       WHERE database = currentDatabase() AND name = {table:String}`,
      { table }
    )
    .pipe(
      Effect.flatMap(([row]) => {
        if (row === undefined) {
          return misconfigured(`Table ${table} does not exist. Run "clickhouse-outbox migrate"`)
        }
        const [engine = "", own, plainDefaults, replicatedDefaults, deduplicateInsert] = row.map(String)
        if (!engine.endsWith("MergeTree")) return misconfigured(cannotDeduplicate(table, engine))
        const replication = replicationOf(engine)
        const read = (setting: string): number =>
          Number(
            new RegExp(`\\b${setting} = (\\d+)`).exec(
              `${own}, ${replication === "none" ? plainDefaults : replicatedDefaults}`
            )?.[1] ?? 0
          )
        const setting =
          replication === "none" ? "non_replicated_deduplication_window" : "replicated_deduplication_window"
        const parts = read(setting)
        if (parts === 0) {
          return misconfigured(
            `Table ${table} (${engine}) does not de-duplicate inserts. Run: ALTER TABLE ${table} MODIFY SETTING ${setting} = 10000`
          )
        }
        if (deduplicateInsert === "disable") {
          return misconfigured(
            "The user's settings profile has deduplicate_insert = 'disable', so that a repeated insert would double its rows. Set it to 'enable'"
          )
        }
        const age = replication === "none" ? Duration.infinity : Duration.seconds(read(`${setting}_seconds`))
        return Effect.as(checkCluster(clickHouse, { cluster, table }, engine, replication), {
          window: { parts, age },
          replication
        })
      }),
      Effect.withSpan("ClickHouseSink.deduplicationWindow", { kind: "client" })
    )

const replicationOf = (engine: string): Replication => {
  if (engine.startsWith("Replicated")) return "replicated"
  return engine.startsWith("Shared") ? "shared" : "none"
}

const cannotDeduplicate = (table: string, engine: string): string =>
  engine === "Distributed"
    ? `Table ${table} is Distributed: it stores nothing itself, and spreads a batch over shards that cannot be asked as one whether they have it. Set CLICKHOUSE_TABLE to the replicated table of one shard, and read through ${table}. Several outboxes may feed several shards`
    : `Table ${table} (${engine}) cannot de-duplicate inserts, which only tables of the MergeTree family do. Set CLICKHOUSE_TABLE to such a table`

/** An insert may run on any server that has a replica, so all of them have to be asked for it. */
const checkCluster = (
  clickHouse: typeof ClickHouse.Service,
  { cluster, table }: Pick<Config.ClickHouse, "table" | "cluster">,
  engine: string,
  replication: Replication
): Effect.Effect<void, SinkError> => {
  if (Option.isSome(cluster)) {
    return replication === "none"
      ? misconfigured(
          `CLICKHOUSE_CLUSTER is set, but table ${table} (${engine}) is not replicated: each server has one of its own. Unset the variable, or make the table a ReplicatedMergeTree`
        )
      : Effect.void
  }
  const unnamed = misconfigured(
    `Table ${table} (${engine}) has replicas on several servers. Set CLICKHOUSE_CLUSTER to the name of their cluster, so that all of them can be asked whether an insert still runs`
  )
  if (replication === "shared") return unnamed
  if (replication === "none") return Effect.void
  return clickHouse
    .query("SELECT total_replicas FROM system.replicas WHERE database = currentDatabase() AND table = {table:String}", {
      table
    })
    .pipe(
      Effect.flatMap(([row]) => {
        const replicas = Number(row?.[0] ?? 0)
        if (replicas === 1) return Effect.void
        return replicas > 1 ? unnamed : keeperIsAway(table)
      })
    )
}

/** Nothing can be inserted either. */
const keeperIsAway = (table: string) =>
  new SinkError({
    errorClass: "transient",
    reason: `Table ${table} has lost Keeper, which knows how many replicas it has`,
    settled: true
  })

const misconfigured = (reason: string) => new SinkError({ errorClass: "configuration", reason, settled: true })

/**
 * @since 0.1.0
 * @category layers
 */
export const layer = (
  config: Pick<Config.ClickHouse, "table" | "requestTimeout" | "cluster">
): Layer.Layer<ClickHouseSink, never, ClickHouse> => Layer.effect(ClickHouseSink, make(config))

/**
 * {@link layer} from the environment: `CLICKHOUSE_TABLE`, `CLICKHOUSE_CLUSTER`, `CLICKHOUSE_REQUEST_TIMEOUT`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig: Layer.Layer<ClickHouseSink, ConfigError.ConfigError, ClickHouse> = Layer.unwrapEffect(
  Effect.map(Config.clickHouse, layer)
)
