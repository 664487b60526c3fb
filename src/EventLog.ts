/**
 * ClickHouse's `event_log`, for people who look at what has arrived.
 *
 * Whatever is asked for is bounded: ClickHouse gives up after some seconds, a page has so many rows and bytes at the
 * most, and a list goes back an hour unless told otherwise. Reads what a server has, which may be a replica that lags.
 * Changes nothing, and knows nothing of Postgres.
 *
 * @since 0.1.0
 */
import type * as Arr from "effect/Array"
import type * as ConfigError from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { ClickHouse } from "./ClickHouse.ts"
import * as Config from "./Config.ts"
import type { EventId } from "./Event.ts"
import * as Find from "./EventLog/find.ts"
import { type EventFilter, list } from "./EventLog/list.ts"
import { names } from "./EventLog/names.ts"
import { serverState } from "./EventLog/serverState.ts"
import type { SinkError } from "./SinkError.ts"
import type { EventNames, LoggedEvent, LoggedEventNotFound, LoggedEvents, TooCostly } from "./schema/eventLog.ts"
import type { DatabaseState } from "./schema/systems.ts"

export type { Hint } from "./EventLog/find.ts"
export type { EventFilter } from "./EventLog/list.ts"
export {
  Counted,
  EventCursor,
  EventNames,
  LoggedEvent,
  LoggedEventNotFound,
  LoggedEvents,
  TooCostly
} from "./schema/eventLog.ts"

/**
 * @since 0.1.0
 * @category tags
 */
export class EventLog extends Context.Tag("clickhouse-outbox/EventLog")<
  EventLog,
  {
    /** Newest first, page by page. */
    readonly list: (filter: EventFilter) => Effect.Effect<LoggedEvents, SinkError | TooCostly>
    /** The types and environments there are. Counts what can be counted in a second. */
    readonly names: (since?: Date) => Effect.Effect<EventNames, SinkError>
    /**
     * The rows of an event. Its type and its time find it at once. Otherwise it is looked for around the time that a
     * uuid of version 7 tells, and then in the whole table.
     */
    readonly find: (
      eventId: EventId,
      hint?: Find.Hint
    ) => Effect.Effect<Arr.NonEmptyReadonlyArray<LoggedEvent>, LoggedEventNotFound | SinkError | TooCostly>
    /** Whether the server answers and has a table that can take events. */
    readonly server: Effect.Effect<DatabaseState>
  }
>() {}

type Options = Pick<Config.ClickHouse, "table" | "cluster">

/**
 * @since 0.1.0
 * @category constructors
 */
export const make = (config: Options): Effect.Effect<typeof EventLog.Service, never, ClickHouse> =>
  Effect.map(ClickHouse, (clickHouse) => ({
    list: list(clickHouse, config.table),
    names: names(clickHouse, config.table),
    find: Find.find(clickHouse, config.table),
    server: serverState(clickHouse, config)
  }))

/**
 * @since 0.1.0
 * @category layers
 */
export const layer = (config: Options): Layer.Layer<EventLog, never, ClickHouse> => Layer.effect(EventLog, make(config))

/**
 * {@link layer} from the environment: `CLICKHOUSE_TABLE`, `CLICKHOUSE_CLUSTER`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig: Layer.Layer<EventLog, ConfigError.ConfigError, ClickHouse> = Layer.unwrapEffect(
  Effect.map(Config.clickHouse, layer)
)
