/**
 * ClickHouse's `event_log`, for people who look at what has arrived.
 *
 * Every question is bounded: ClickHouse gives up after some seconds, a page has a limit of rows and of bytes, and a list
 * goes from an hour ago to a day ahead unless told otherwise. The answer is what one server has, which may be a replica that lags. Nothing is
 * changed here, and nothing is known of Postgres.
 *
 * @since 0.1.0
 */
import type * as Arr from "effect/Array"
import type * as ConfigError from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { ClickHouse } from "./ClickHouse.ts"
import * as Config from "./Config.ts"
import type { EventId } from "./Event.ts"
import * as Reading from "./EventLog/Reading.ts"
import type { SinkError } from "./SinkError.ts"
import type { EventNames, LoggedEvent, LoggedEventNotFound, LoggedEvents, TooCostly } from "./schema/eventLog.ts"
import { readTableState } from "./schema/eventTable.ts"
import { reachable } from "./schema/reachable.ts"
import { DatabaseState } from "./schema/systems.ts"

export type { EventFilter, Hint } from "./EventLog/Reading.ts"
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
 * Events that have arrived.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EventLog } from "clickhouse-outbox"
 *
 * // The last orders, and what the newest of them said.
 * const lastOrders = Effect.gen(function* () {
 *   const eventLog = yield* EventLog.EventLog
 *   const { events, next } = yield* eventLog.list({ eventType: "order_placed", limit: 20 })
 *   const older = next === null ? [] : (yield* eventLog.list({ eventType: "order_placed", before: next })).events
 *   return { newest: events[0]?.eventContext, events: [...events, ...older] }
 * })
 * ```
 * @since 0.1.0
 * @category tags
 */
export class EventLog extends Context.Tag("clickhouse-outbox/EventLog")<
  EventLog,
  {
    /** Newest first, page by page. */
    readonly list: (filter: Reading.EventFilter) => Effect.Effect<LoggedEvents, SinkError | TooCostly>
    /** The types and environments there are. Counts what can be counted in a second. */
    readonly names: (since?: Date) => Effect.Effect<EventNames, SinkError | TooCostly>
    /**
     * The rows of an event. Its type and its time find it at once. Otherwise it is looked for around the time that a
     * uuid of version 7 tells, and then in the whole table.
     */
    readonly find: (
      eventId: EventId,
      hint?: Reading.Hint
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
    ...Reading.make(clickHouse, config.table),
    server: serverState(clickHouse, config)
  }))

const serverState = (clickHouse: typeof ClickHouse.Service, config: Options): Effect.Effect<DatabaseState> =>
  Effect.gen(function* () {
    const [duration, [row]] = yield* Effect.timed(clickHouse.query("SELECT version()"))
    const reason = yield* Effect.match(readTableState(clickHouse, config), {
      onFailure: ({ reason }) => reason,
      onSuccess: () => null
    })
    return new DatabaseState({
      reachable: true,
      migrated: reason === null,
      reason,
      version: String(row?.[0]),
      pingMillis: Duration.toMillis(duration)
    })
  }).pipe(reachable, Effect.withSpan("EventLog.server", { kind: "client" }))

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
