/**
 * ClickHouse's `event_log`: takes a batch as bytes, and can be asked which events it holds.
 *
 * An insert is one block under one token: it is in the table whole or not at all, and repeated with the same token it
 * changes nothing, as long as the table's de-duplication window remembers the token. Safe to call from any number of
 * workers. Knows nothing of Postgres.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import type * as ConfigError from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import type { Batch } from "./Batch.ts"
import { ClickHouse } from "./ClickHouse.ts"
import * as Ask from "./ClickHouseSink/ask.ts"
import { type Insertion, insertInto, type Taken } from "./ClickHouseSink/insert.ts"
import * as Config from "./Config.ts"
import type { EventId } from "./Event.ts"
import type { SinkError } from "./SinkError.ts"
import { type DeduplicationWindow, readTableState, type TableState } from "./schema/eventTable.ts"

export type { Bounds, Row } from "./ClickHouseSink/ask.ts"
export type { Insertion, Taken } from "./ClickHouseSink/insert.ts"
export type { DeduplicationWindow } from "./schema/eventTable.ts"

/**
 * @since 0.1.0
 * @category tags
 */
export class ClickHouseSink extends Context.Tag("clickhouse-outbox/ClickHouseSink")<
  ClickHouseSink,
  {
    /**
     * Inserts rows under a de-duplication token, and returns what ClickHouse says of them: only `all` is a success. If
     * the stream fails, nothing was inserted. Fails if the table could not de-duplicate.
     */
    readonly insert: <E>(insertion: Insertion<E>) => Effect.Effect<Taken, SinkError | E>
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
      within: Ask.Bounds,
      eventIds: ReadonlyArray<EventId>
    ) => Effect.Effect<ReadonlyMap<EventId, number>, SinkError>
    /** The rows that the table has of the events, as text. Asked like `missing`. */
    readonly readRows: (
      within: Ask.Bounds,
      eventIds: ReadonlyArray<EventId>
    ) => Effect.Effect<ReadonlyArray<Ask.Row>, SinkError>
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

    const { countRows, isInserting, readRows } = Ask.make(clickHouse, config, tableState)

    return {
      insert: (insertion) =>
        Effect.flatMap(tableState, (state) => insertInto(clickHouse, config, state, insertion)).pipe(
          Effect.withSpan("ClickHouseSink.insert", { kind: "client", attributes: { "db.system.name": "clickhouse" } })
        ),
      missing: (batch, eventIds) =>
        countRows(batch, eventIds).pipe(
          Effect.map((present) => eventIds.filter((id) => !present.has(id))),
          Effect.withSpan("ClickHouseSink.missing", { kind: "client" })
        ),
      countRows: (within, eventIds) =>
        Effect.withSpan(countRows(within, eventIds), "ClickHouseSink.countRows", { kind: "client" }),
      readRows: (within, eventIds) =>
        Effect.withSpan(readRows(within, eventIds), "ClickHouseSink.readRows", { kind: "client" }),
      check: Effect.asVoid(readTableState(clickHouse, config)),
      ttl: Effect.map(tableState, ({ ttl }) => ttl),
      deduplicationWindow: Effect.map(tableState, ({ window }) => window),
      isInserting
    }
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
