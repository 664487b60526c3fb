/** Delivered events, newest first. */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { ClickHouse } from "../ClickHouse.ts"
import type { SinkError } from "../SinkError.ts"
import { DEFAULT_LIMIT } from "../schema/columns.ts"
import { EventCursor, type LoggedEvent, LoggedEvents, type TooCostly } from "../schema/eventLog.ts"
import { decode, EVENT_CONTEXT, EVENT_DATE_TIME, orTooCostly, SETTINGS, toClickHouse } from "./read.ts"

/** Which events. Everything given must hold. */
export interface EventFilter {
  readonly eventType?: string | undefined
  readonly environment?: string | undefined
  /** Of this time or later. An hour before `until`, or now, unless set. */
  readonly since?: Date | undefined
  readonly until?: Date | undefined
  /** What is older than this: `next` of the page before. */
  readonly before?: EventCursor | undefined
  /** 50 unless set. */
  readonly limit?: number | undefined
}

const DEFAULT_RANGE = Duration.toMillis("1 hour")

/** Without a type every type's rows of that time are read. */
const MAX_ROWS = "200000000"

/** Of contexts, in a page. */
const MAX_BYTES = 4_194_304

/**
 * The keys first, which are narrow, and of the rows only those of the page: contexts are heavy. With a type the order is
 * that of the table, and only the newest granules are read.
 */
export const list =
  (clickHouse: typeof ClickHouse.Service, table: string) =>
  ({
    before,
    environment,
    eventType,
    limit = DEFAULT_LIMIT,
    since,
    until
  }: EventFilter): Effect.Effect<LoggedEvents, SinkError | TooCostly> =>
    Effect.gen(function* () {
      const from = since ?? new Date((until?.getTime() ?? (yield* Clock.currentTimeMillis)) - DEFAULT_RANGE)
      const [beforeTime = "", beforeId = ""] = before?.split(",") ?? []
      const range = `
        event_date_time >= {since:DateTime64(6, 'UTC')}
        ${until === undefined ? "" : "AND event_date_time < {until:DateTime64(6, 'UTC')}"}
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
           WHERE bytes_before < ${MAX_BYTES}
           ORDER BY time DESC, event_id DESC`,
          {
            table,
            limit: limit + 1,
            since: toClickHouse(from),
            ...(until !== undefined && { until: toClickHouse(until) }),
            ...(eventType !== undefined && { event_type: eventType }),
            ...(environment !== undefined && { environment }),
            ...(before !== undefined && { before: beforeTime.replace("T", " ").replace("Z", ""), before_id: beforeId })
          },
          { settings: { ...SETTINGS, ...(eventType === undefined && { max_rows_to_read: MAX_ROWS }) } }
        )
        .pipe(orTooCostly)
      const events = (yield* decode(rows)).slice(0, limit)
      const isLast = Number(rows[0]?.[7] ?? 0) === events.length
      return new LoggedEvents({ events, next: isLast ? null : cursorOf(events), since: from })
    }).pipe(Effect.withSpan("EventLog.list", { kind: "client" }))

const cursorOf = (events: ReadonlyArray<LoggedEvent>): EventCursor | null => {
  const last = events.at(-1)
  return last === undefined ? null : EventCursor.make(`${last.eventDateTime},${last.eventId}`)
}
