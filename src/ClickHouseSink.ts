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
import type * as Stream from "effect/Stream"
import type { Batch } from "./Batch.ts"
import { ClickHouse, type Options, type Settings } from "./ClickHouse.ts"
import { withNothingBehind } from "./ClickHouseSink/current.ts"
import { type DeduplicationWindow, readTableState, type TableState } from "./ClickHouseSink/table.ts"
import * as Config from "./Config.ts"
import { EventId } from "./Event.ts"
import { SinkError } from "./SinkError.ts"

export type { DeduplicationWindow } from "./ClickHouseSink/table.ts"

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
    /** How many rows the table has of each of the events; those that it has none of are left out. Asked like `missing`. */
    readonly countRows: (
      within: Bounds,
      eventIds: ReadonlyArray<EventId>
    ) => Effect.Effect<ReadonlyMap<EventId, number>, SinkError>
    /** Succeeds if the server answers and has a table that can take events. */
    readonly check: Effect.Effect<void, SinkError>
    /** What ClickHouse removes from the table by itself, in SQL; none unless the table has a TTL. */
    readonly ttl: Effect.Effect<Option.Option<string>, SinkError>
    /** How far back the table remembers tokens. */
    readonly deduplicationWindow: Effect.Effect<DeduplicationWindow, SinkError>
    /**
     * Whether an insert under the token is running on the server, or on any of the cluster's. One of which less than
     * 1 kB arrived is not seen.
     */
    readonly isInserting: (token: string) => Effect.Effect<boolean, SinkError>
  }
>() {}

/**
 * Where events are looked for: without their types and times it would be a scan.
 *
 * @since 0.1.0
 * @category models
 */
export type Bounds = Pick<Batch, "eventTypes" | "firstEventDateTime" | "lastEventDateTime">

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
      const now = Number((yield* Clock.currentTimeNanos) / 1_000_000n)
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

    const countRows = (within: Bounds, eventIds: ReadonlyArray<EventId>) => {
      const fewTypes = Buffer.byteLength(JSON.stringify(within.eventTypes)) <= MAX_TYPES_BYTES
      const ask = (ids: ReadonlyArray<EventId>, options?: Options) =>
        clickHouse.query(
          `SELECT toString(event_id), toUInt32(count())
           FROM {table:Identifier}
           WHERE ${fewTypes ? "event_type IN {event_types:Array(String)}" : "true"}
             AND event_date_time >= {first:DateTime64(6, 'UTC')} - INTERVAL 1 SECOND
             AND event_date_time <= {last:DateTime64(6, 'UTC')}
             AND event_id IN {ids:Array(UUID)}
           GROUP BY event_id`,
          {
            table,
            event_types: fewTypes ? within.eventTypes : [],
            first: within.firstEventDateTime,
            last: within.lastEventDateTime,
            ids
          },
          options
        )
      return Effect.flatMap(tableState, (state) => withNothingBehind(clickHouse, config, state)).pipe(
        Effect.flatMap((current) =>
          Effect.forEach(Arr.chunksOf(eventIds, IDS_PER_QUERY), (ids) => current((options) => ask(ids, options)))
        ),
        Effect.map(
          (answers) => new Map(answers.flat().map(([id, rows]) => [EventId.make(String(id)), Number(rows)] as const))
        ),
        Effect.mapError(unanswered)
      )
    }

    const missing = (batch: Batch, eventIds: ReadonlyArray<EventId>) =>
      countRows(batch, eventIds).pipe(
        Effect.map((present) => eventIds.filter((id) => !present.has(id))),
        Effect.withSpan("ClickHouseSink.missing", { kind: "client" })
      )

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

    return {
      insert,
      missing,
      countRows: (within, eventIds) =>
        Effect.withSpan(countRows(within, eventIds), "ClickHouseSink.countRows", { kind: "client" }),
      check,
      ttl: Effect.map(tableState, ({ ttl }) => ttl),
      deduplicationWindow,
      isInserting
    }
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
