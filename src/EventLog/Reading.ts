/** Reading `event_log`: what questions to it have in common, and each of them. */
import * as Arr from "effect/Array"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import type { ClickHouse, Settings } from "../ClickHouse.ts"
import type { EventId } from "../Event.ts"
import { SinkError } from "../SinkError.ts"
import { DEFAULT_LIMIT } from "../schema/columns.ts"
import {
  EventCursor,
  EventNames,
  LoggedEvent,
  LoggedEventNotFound,
  LoggedEvents,
  TooCostly
} from "../schema/eventLog.ts"

/**
 * Which events. Everything given must hold.
 *
 * @since 0.1.0
 * @category models
 */
export interface EventFilter {
  readonly eventType?: string | undefined
  readonly environment?: string | undefined
  /** Of this time or later. An hour before `until`, or now, unless set. */
  readonly since?: Date | undefined
  /** Before this time. A day from now unless set: a publisher may date an event as far ahead as the year 2299. */
  readonly until?: Date | undefined
  /** What is older than this: `next` of the page before. */
  readonly before?: EventCursor | undefined
  /** 50 unless set. */
  readonly limit?: number | undefined
}

/**
 * Where an event is looked for, and nowhere else.
 *
 * @since 0.1.0
 * @category models
 */
export interface Hint {
  readonly eventType?: string | undefined
  readonly since?: Date | undefined
  readonly until?: Date | undefined
}

/** How far back {@link EventFilter.since} goes by itself. */
const LIST_RANGE = Duration.toMillis("1 hour")

/** How far ahead events are looked for, unless it is said: each month ahead may be a part that has to be read. */
const AHEAD = Duration.toMillis("24 hours")

/** How far back names are counted, unless it is said. */
const NAMES_RANGE = Duration.toMillis("24 hours")

/** An event gets its id and its time from two clocks, at about the same time. Unless its publisher sets the time. */
const CLOCKS_DIFFER = Duration.toMillis("1 hour")

/** Of one id: several may have been published under it, each as heavy as an event may be. */
const MAX_ROWS_FOUND = 10

/** Of contexts, in a page. */
const MAX_PAGE_BYTES = 4_194_304

/** What one question may use of a server that relays insert into, and how it writes what it reads. */
const SETTINGS: Settings = {
  max_execution_time: 5,
  max_memory_usage: "1000000000",
  max_threads: 4,
  // As it was published: keys with dots in them, and numbers with all their digits.
  json_type_escape_dots_in_keys: 1,
  output_format_json_quote_64bit_integers: 0,
  output_format_json_escape_forward_slashes: 0
}

/** Without a type every type's rows of that time are read. */
const LIMITS_WITHOUT_TYPE: Settings = { max_rows_to_read: "200000000" }

/** Where one is reached, what was counted until then is the answer. */
const LIMITS_OF_NAMES: Settings = {
  max_execution_time: 1,
  timeout_overflow_mode: "break",
  max_rows_to_read: "100000000",
  read_overflow_mode: "break",
  max_rows_to_group_by: 100_000,
  group_by_overflow_mode: "any"
}

/** RFC 3339, to the microsecond. */
const EVENT_DATE_TIME = "replaceOne(toString(toDateTime64(event_date_time, 6, 'UTC')), ' ', 'T') || 'Z'"

/** The context as JSON, whichever type its column has. */
const EVENT_CONTEXT = "toString(event_context)"

export const make = (clickHouse: typeof ClickHouse.Service, table: string) => {
  const look = (eventId: EventId, { eventType, since, until }: Hint) =>
    clickHouse
      .query(
        `SELECT
           toString(event_id), event_type, ${EVENT_DATE_TIME}, environment, ${EVENT_CONTEXT},
           toString(metadata_version), trace_id
         FROM {table:Identifier}
         WHERE event_id = {event_id:UUID}
           ${eventType === undefined ? "" : "AND event_type = {event_type:String}"}
           ${since === undefined ? "" : "AND event_date_time >= {since:DateTime64(6, 'UTC')}"}
           ${until === undefined ? "" : "AND event_date_time < {until:DateTime64(6, 'UTC')}"}
         ORDER BY event_date_time DESC
         LIMIT ${MAX_ROWS_FOUND}`,
        {
          table,
          event_id: eventId,
          ...(eventType !== undefined && { event_type: eventType }),
          ...(since !== undefined && { since: toClickHouse(since) }),
          ...(until !== undefined && { until: toClickHouse(until) })
        },
        { settings: SETTINGS }
      )
      .pipe(orTooCostly, toEvents)

  const count = (column: string, { since, until }: { readonly since: Date; readonly until: Date }) =>
    clickHouse
      .query(
        `SELECT ${column}, count() AS events
         FROM {table:Identifier}
         WHERE event_date_time >= {since:DateTime64(6, 'UTC')} AND event_date_time < {until:DateTime64(6, 'UTC')}
         GROUP BY ${column}
         ORDER BY events DESC, ${column}
         LIMIT 100`,
        { table, since: toClickHouse(since), until: toClickHouse(until) },
        { settings: { ...SETTINGS, ...LIMITS_OF_NAMES } }
      )
      .pipe(
        orTooCostly,
        Effect.map((rows) => rows.map(([name, events]) => ({ name: String(name), events: Number(events) })))
      )

  return {
    /**
     * The keys first, which are narrow, and of the rows only those of the page: contexts are heavy. With a type the order
     * is that of the table, and only the newest granules are read.
     */
    list: Effect.fn("EventLog.list", { kind: "client" })(function* ({
      before,
      environment,
      eventType,
      limit = DEFAULT_LIMIT,
      since,
      until
    }: EventFilter) {
      const now = yield* Clock.currentTimeMillis
      const from = since ?? new Date((until?.getTime() ?? now) - LIST_RANGE)
      const to = until ?? new Date(now + AHEAD)
      const [beforeTime = "", beforeId = ""] = before?.split(",") ?? []
      const range = `
        event_date_time >= {since:DateTime64(6, 'UTC')}
        AND event_date_time < {until:DateTime64(6, 'UTC')}
        ${eventType === undefined ? "" : "AND event_type = {event_type:String}"}
        ${before === undefined ? "" : "AND event_date_time <= {before:DateTime64(6, 'UTC')}"}`
      const rows = yield* clickHouse
        .query(
          `SELECT
             toString(event_id), event_type, time, environment, context, toString(metadata_version), trace_id, found
           FROM (
             SELECT
               *,
               count() OVER () AS found,
               sum(length(context)) OVER (
                 ORDER BY time DESC, event_id DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
               ) AS bytes_before
             FROM (
               SELECT
                 event_id, event_type, ${EVENT_DATE_TIME} AS time, environment, ${EVENT_CONTEXT} AS context,
                 metadata_version, trace_id
               FROM {table:Identifier}
               WHERE ${range} AND (event_type, event_date_time, event_id) IN (
                 SELECT event_type, event_date_time, event_id
                 FROM {table:Identifier}
                 WHERE ${range}
                   ${environment === undefined ? "" : "AND environment = {environment:String}"}
                   ${
                     before === undefined
                       ? ""
                       : "AND (event_date_time, event_id) < ({before:DateTime64(6, 'UTC')}, {before_id:UUID})"
                   }
                 ORDER BY event_date_time DESC, event_id DESC
                 LIMIT {limit:UInt32}
               )
               ORDER BY event_date_time DESC, event_id DESC
               LIMIT {limit:UInt32}
             )
           )
           WHERE bytes_before < ${MAX_PAGE_BYTES}
           ORDER BY time DESC, event_id DESC`,
          {
            table,
            limit: limit + 1,
            since: toClickHouse(from),
            until: toClickHouse(to),
            ...(eventType !== undefined && { event_type: eventType }),
            ...(environment !== undefined && { environment }),
            ...(before !== undefined && { before: beforeTime.replace("T", " ").replace("Z", ""), before_id: beforeId })
          },
          { settings: { ...SETTINGS, ...(eventType === undefined && LIMITS_WITHOUT_TYPE) } }
        )
        .pipe(orTooCostly)
      const events = (yield* toEvents(Effect.succeed(rows))).slice(0, limit)
      const isLast = Number(rows[0]?.[7] ?? 0) === events.length
      return new LoggedEvents({ events, next: isLast ? null : cursorOf(events), since: from })
    }),

    names: Effect.fn("EventLog.names", { kind: "client" })(function* (since?: Date) {
      const now = yield* Clock.currentTimeMillis
      const from = since ?? new Date(now - NAMES_RANGE)
      const range = { since: from, until: new Date(now + AHEAD) }
      const [eventTypes, environments] = yield* Effect.all([count("event_type", range), count("environment", range)])
      return new EventNames({ eventTypes, environments, since: from })
    }),

    /** The table is not sorted by ids, so where to look comes from what is known of the event. */
    find: Effect.fn("EventLog.find", { kind: "client" })(function* (eventId: EventId, hint: Hint = {}) {
      yield* Effect.annotateCurrentSpan("event.id", eventId)
      for (const place of Object.keys(hint).length > 0 ? [hint] : placesOf(eventId)) {
        const events = yield* look(eventId, place)
        if (Arr.isNonEmptyReadonlyArray(events)) return events
      }
      return yield* new LoggedEventNotFound({ eventId })
    })
  }
}

const cursorOf = (events: ReadonlyArray<LoggedEvent>): EventCursor | null => {
  const last = events.at(-1)
  return last === undefined ? null : EventCursor.make(`${last.eventDateTime},${last.eventId}`)
}

const placesOf = (eventId: EventId): ReadonlyArray<Hint> => {
  const everywhere = {}
  const millis = Number.parseInt(eventId.slice(0, 8) + eventId.slice(9, 13), 16)
  return eventId[14] === "7" && millis <= LAST
    ? [{ since: new Date(millis - CLOCKS_DIFFER), until: new Date(millis + CLOCKS_DIFFER) }, everywhere]
    : [everywhere]
}

/** What a DateTime64 can hold. No event is of another time. */
const FIRST = Date.UTC(1900, 0, 1)
const LAST = Date.UTC(2299, 11, 31, 23, 59, 59, 999)

/** As ClickHouse reads a DateTime64. */
const toClickHouse = (time: Date): string =>
  new Date(Math.min(Math.max(time.getTime(), FIRST), LAST)).toISOString().replace("T", " ").replace("Z", "")

const COLUMNS = [
  "event_id",
  "event_type",
  "event_date_time",
  "environment",
  "event_context",
  "metadata_version",
  "trace_id"
]

/** Rows whose first columns are {@link COLUMNS}. The table may be the user's own, and a column of another type. */
const toEvents = <E>(
  rows: Effect.Effect<ReadonlyArray<ReadonlyArray<unknown>>, E>
): Effect.Effect<ReadonlyArray<LoggedEvent>, E | SinkError> =>
  rows.pipe(
    Effect.map(Arr.map((row) => Object.fromEntries(COLUMNS.map((name, index) => [name, row[index]])))),
    Effect.flatMap((rows) => Effect.mapError(decodeEvents(rows), unreadable))
  )

const decodeEvents = Schema.decodeUnknown(Schema.Array(LoggedEvent))

const unreadable = (error: ParseResult.ParseError): SinkError => {
  const [issue] = ParseResult.ArrayFormatter.formatErrorSync(error)
  return new SinkError({
    errorClass: "configuration",
    reason: `Column ${String(issue?.path[1])} of the table has what no event that was published has: ${issue?.message}. Give it the type that event_log has`,
    settled: true
  })
}

/** TOO_MANY_ROWS, TIMEOUT_EXCEEDED, TOO_SLOW, MEMORY_LIMIT_EXCEEDED, TOO_MANY_BYTES. */
const LIMIT_CODES: ReadonlySet<number | undefined> = new Set([158, 159, 160, 241, 307])

/** A limit that was reached says that too much was asked for, not that the server is unwell. */
const orTooCostly = <A, R>(ask: Effect.Effect<A, SinkError, R>): Effect.Effect<A, SinkError | TooCostly, R> =>
  Effect.mapError(ask, (error) => (LIMIT_CODES.has(error.code) ? new TooCostly({ reason: error.reason }) : error))
