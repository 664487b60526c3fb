/** What `event_log` is: whether it de-duplicates, and which servers have its data. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { ClickHouse, Settings } from "../ClickHouse.ts"
import type * as Config from "../Config.ts"
import { SinkError } from "../SinkError.ts"
import { decode } from "./clickHouseAnswer.ts"

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

/** Which servers have the table's data. */
type Replication = "none" | "replicated" | "shared"

export interface TableState {
  readonly window: DeduplicationWindow
  readonly replication: Replication
  /** What the server removes by itself, as the table says it. */
  readonly ttl: Option.Option<string>
  /** Settings of {@link READING} that the user's profile changes, as they are by default. */
  readonly changed: Settings
  /** Whether materialized views take what is inserted. */
  readonly hasViews: boolean
}

/**
 * How settings are called that change how rows are read and divided into blocks. Newer versions have more of them than
 * those above, and an older one would refuse them: they are sent where the user's profile changes them.
 */
const READING =
  "^(input_format_|format_|type_json_|date_time_|deduplicate_|insert_deduplicat|max_insert_block_|min_insert_block_|use_strict_insert_|exclude_materialize_)"

/**
 * A table is refused that would accept a repeated batch once more, whose servers cannot all be asked, or that may not show
 * all of its rows.
 */
export const readTableState = (
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
         -- Pairs as lists: of tuples, a setting of the user's decides whether they are written as objects.
         (SELECT groupArray([name, default]) FROM system.settings WHERE changed AND match(name, {reading:String})),
         -- A database's has no table. Whoever it is for: of others', some servers hide all rows from users without one.
         (
           SELECT groupArray(name) FROM system.row_policies
           WHERE database IN ('', currentDatabase()) AND table IN ('', {table:String})
         ),
         toUInt32(length(dependencies_table))
       FROM system.tables
       WHERE database = currentDatabase() AND name = {table:String}`,
      { table, reading: READING }
    )
    .pipe(
      Effect.flatMap(decode(Found)),
      Effect.flatMap(([row]) => {
        if (row === undefined) {
          return misconfigured(`Table ${table} does not exist. Run "clickhouse-outbox migrate"`)
        }
        const [engine, own, plainDefaults, replicatedDefaults, changed, policies, views] = row
        if (!engine.endsWith("MergeTree")) return misconfigured(cannotDeduplicate(table, engine))
        if (policies.length > 0) return misconfigured(hidesRows(table, policies))
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
        const age = replication === "none" ? Duration.infinity : Duration.seconds(read(`${setting}_seconds`))
        return Effect.as(checkCluster(clickHouse, { cluster, table }, engine, replication), {
          window: { parts, age },
          replication,
          ttl: Option.fromNullable(/ TTL (.+?)(?: SETTINGS |$)/s.exec(own)?.[1]),
          changed: Object.fromEntries(changed),
          hasViews: views > 0
        })
      }),
      Effect.withSpan("ClickHouseSink.deduplicationWindow", { kind: "client" })
    )

const Found = Schema.Array(
  Schema.Tuple(
    Schema.String,
    Schema.String,
    Schema.String,
    Schema.String,
    Schema.Array(Schema.Tuple(Schema.String, Schema.String)),
    Schema.Array(Schema.String),
    Schema.Int
  )
)

const replicationOf = (engine: string): Replication => {
  if (engine.startsWith("Replicated")) return "replicated"
  return engine.startsWith("Shared") ? "shared" : "none"
}

const cannotDeduplicate = (table: string, engine: string): string =>
  engine === "Distributed"
    ? `Table ${table} is Distributed: it stores nothing itself, and spreads a batch over shards that cannot be asked as one whether they have it. Set CLICKHOUSE_TABLE to the replicated table of one shard, and read through ${table}. Several outboxes may feed several shards`
    : `Table ${table} (${engine}) cannot de-duplicate inserts, which only tables of the MergeTree family do. Set CLICKHOUSE_TABLE to such a table`

const hidesRows = (table: string, policies: ReadonlyArray<string>): string =>
  `Table ${table} has row policies (${policies.join(", ")}). Events whose rows one hides would look as if they were missing, and be sent again. Drop them, and let readers who may not see every row read a view or a table of their own`

/** An insert may run on any server that has a replica, so all of them have to be asked for it. */
const checkCluster = (
  clickHouse: typeof ClickHouse.Service,
  config: Pick<Config.ClickHouse, "table" | "cluster">,
  engine: string,
  replication: Replication
): Effect.Effect<void, SinkError> => {
  const table = `Table ${config.table} (${engine})`
  const cluster = Option.getOrNull(config.cluster)
  if (replication === "none") {
    return cluster === null
      ? Effect.void
      : misconfigured(
          `CLICKHOUSE_CLUSTER is set, but ${table} is not replicated: each server has one of its own. Unset the variable, or make the table a ReplicatedMergeTree`
        )
  }
  const unnamed = misconfigured(
    `${table} has replicas on several servers. Set CLICKHOUSE_CLUSTER to the name of their cluster, so that all of them can be asked whether an insert still runs`
  )
  if (cluster === null) {
    if (replication === "shared") return unnamed
    return Effect.flatMap(countReplicas(clickHouse, config.table), (replicas) => {
      if (replicas === 1) return Effect.void
      return replicas > 1 ? unnamed : keeperIsAway(config.table)
    })
  }
  return Effect.gen(function* () {
    const replicas = replication === "shared" ? 1 : yield* countReplicas(clickHouse, config.table)
    const [[servers]] = yield* clickHouse
      .query("SELECT toUInt32(count()) FROM system.clusters WHERE cluster = {cluster:String}", { cluster })
      .pipe(Effect.flatMap(decode(Count)))
    if (servers >= Math.max(replicas, 1)) return
    yield* misconfigured(
      servers === 0
        ? `CLICKHOUSE_CLUSTER is ${cluster}, of which the server knows nothing. Set it to the name of the cluster whose servers have ${table}`
        : `CLICKHOUSE_CLUSTER is ${cluster}, which has ${servers} servers, but ${table} has ${replicas} replicas. Set it to the name of a cluster with all of them, so that all can be asked whether an insert still runs`
    )
  })
}

/** 0 if the table has lost Keeper. */
const countReplicas = (clickHouse: typeof ClickHouse.Service, table: string): Effect.Effect<number, SinkError> =>
  clickHouse
    .query(
      `SELECT toUInt32(sum(total_replicas)) FROM system.replicas
       WHERE database = currentDatabase() AND table = {table:String}`,
      { table }
    )
    .pipe(
      Effect.flatMap(decode(Count)),
      Effect.map(([[replicas]]) => replicas)
    )

const Count = Schema.Tuple(Schema.Tuple(Schema.Int))

/** Nothing can be inserted either. */
const keeperIsAway = (table: string) =>
  new SinkError({
    errorClass: "transient",
    reason: `Table ${table} has lost Keeper, which knows how many replicas it has`,
    settled: true
  })

const misconfigured = (reason: string) => new SinkError({ errorClass: "configuration", reason, settled: true })
