/** What questions to `event_log` have in common. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Settings } from "../ClickHouse.ts"
import type { SinkError } from "../SinkError.ts"
import { LoggedEvent, TooCostly } from "../schema/eventLog.ts"

/** Of the relay's server, which has more to do. */
export const SETTINGS: Settings = {
  max_execution_time: 5,
  max_memory_usage: "1000000000",
  max_threads: 4,
  // As it was published: keys with dots in them, and numbers with all their digits.
  json_type_escape_dots_in_keys: 1,
  output_format_json_quote_64bit_integers: 0,
  output_format_json_escape_forward_slashes: 0
}

/** RFC 3339, to the microsecond. */
export const EVENT_DATE_TIME = "replaceOne(toString(toDateTime64(event_date_time, 6, 'UTC')), ' ', 'T') || 'Z'"

/** The context as JSON, whichever type its column has. */
export const EVENT_CONTEXT = "toString(event_context)"

/** What a DateTime64 can hold. No event is of another time. */
const FIRST = Date.UTC(1900, 0, 1)
export const LAST = Date.UTC(2299, 11, 31, 23, 59, 59, 999)

/** As ClickHouse reads a DateTime64. */
export const toClickHouse = (time: Date): string =>
  new Date(Math.min(Math.max(time.getTime(), FIRST), LAST)).toISOString().replace("T", " ").replace("Z", "")

const NAMES = [
  "event_id",
  "event_type",
  "event_date_time",
  "environment",
  "event_context",
  "metadata_version",
  "trace_id"
]

/** The table's columns are known, so a row that does not decode is a defect. */
export const decode = (rows: ReadonlyArray<ReadonlyArray<unknown>>): Effect.Effect<ReadonlyArray<LoggedEvent>> =>
  Effect.orDie(
    Schema.decodeUnknown(Schema.Array(LoggedEvent))(
      rows.map((row) => Object.fromEntries(NAMES.map((name, index) => [name, row[index]])))
    )
  )

/** TOO_MANY_ROWS, TIMEOUT_EXCEEDED, TOO_SLOW, MEMORY_LIMIT_EXCEEDED, TOO_MANY_BYTES. */
const LIMITS: ReadonlySet<number | undefined> = new Set([158, 159, 160, 241, 307])

/** A limit that was reached says that too much was asked for, not that the server is not well. */
export const orTooCostly = <A, R>(ask: Effect.Effect<A, SinkError, R>): Effect.Effect<A, SinkError | TooCostly, R> =>
  Effect.mapError(ask, (error) => (LIMITS.has(error.code) ? new TooCostly({ reason: error.reason }) : error))
