/** What ClickHouse holds, for tests to compare with what was published. */
import * as Effect from "effect/Effect"
import { ClickHouse } from "../../src/ClickHouse.ts"

/** Every row of `event_log`, the context as ClickHouse prints it. */
export const eventLog = Effect.flatMap(ClickHouse, (clickHouse) =>
  clickHouse.query(`
    SELECT
      toString(event_id), event_type, toString(event_date_time), environment, toJSONString(event_context),
      toString(metadata_version), trace_id
    FROM event_log
    ORDER BY toString(event_id)
    -- So that a dot in a key is printed as one.
    SETTINGS json_type_escape_dots_in_keys = 1
  `)
).pipe(
  Effect.map((rows) =>
    rows.map((row) => {
      const [
        eventId = "",
        eventType = "",
        eventDateTime = "",
        environment = "",
        context = "",
        version = "",
        traceId = ""
      ] = row.map(String)
      const eventContext: unknown = JSON.parse(context)
      return { eventId, eventType, eventDateTime, environment, eventContext, metadataVersion: version, traceId }
    })
  )
)

/** How many rows there are, and how many different events they are of. */
export const counts = Effect.flatMap(ClickHouse, (clickHouse) =>
  clickHouse.query("SELECT count(), uniqExact(event_id) FROM event_log")
).pipe(Effect.map(([row]) => ({ rows: Number(row?.[0]), events: Number(row?.[1]) })))
