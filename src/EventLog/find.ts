/** The rows of one event. The table is not sorted by ids, so where to look comes from what is known of it. */
import * as Arr from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { ClickHouse } from "../ClickHouse.ts"
import type { EventId } from "../Event.ts"
import type { SinkError } from "../SinkError.ts"
import { type LoggedEvent, LoggedEventNotFound, type TooCostly } from "../schema/eventLog.ts"
import { decode, EVENT_CONTEXT, EVENT_DATE_TIME, LAST, orTooCostly, SETTINGS, toClickHouse } from "./read.ts"

/** Where an event is looked for, and nowhere else. */
export interface Hint {
  readonly eventType?: string | undefined
  readonly since?: Date | undefined
  readonly until?: Date | undefined
}

/** An event is given its id and its time by two clocks, at about the same time. Unless its publisher sets the time. */
const MARGIN = Duration.toMillis("1 hour")

/** Several may have been published under one id, each as heavy as an event may be. */
const MAX_ROWS = 10

export const find =
  (clickHouse: typeof ClickHouse.Service, table: string) =>
  (
    eventId: EventId,
    hint: Hint = {}
  ): Effect.Effect<Arr.NonEmptyReadonlyArray<LoggedEvent>, LoggedEventNotFound | SinkError | TooCostly> => {
    const look = ({ eventType, since, until }: Hint) =>
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
           LIMIT ${MAX_ROWS}`,
          {
            table,
            event_id: eventId,
            ...(eventType !== undefined && { event_type: eventType }),
            ...(since !== undefined && { since: toClickHouse(since) }),
            ...(until !== undefined && { until: toClickHouse(until) })
          },
          { settings: SETTINGS }
        )
        .pipe(orTooCostly, Effect.flatMap(decode))
    return Effect.gen(function* () {
      for (const place of Object.keys(hint).length > 0 ? [hint] : placesOf(eventId)) {
        const events = yield* look(place)
        if (Arr.isNonEmptyReadonlyArray(events)) return events
      }
      return yield* new LoggedEventNotFound({ eventId })
    }).pipe(Effect.withSpan("EventLog.find", { kind: "client", attributes: { "event.id": eventId } }))
  }

const placesOf = (eventId: EventId): ReadonlyArray<Hint> => {
  const everywhere = {}
  const millis = Number.parseInt(eventId.slice(0, 8) + eventId.slice(9, 13), 16)
  return eventId[14] === "7" && millis <= LAST
    ? [{ since: new Date(millis - MARGIN), until: new Date(millis + MARGIN) }, everywhere]
    : [everywhere]
}
