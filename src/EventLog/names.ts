/** What there is to filter by. */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { ClickHouse } from "../ClickHouse.ts"
import type { SinkError } from "../SinkError.ts"
import { EventNames } from "../schema/eventLog.ts"
import { SETTINGS, toClickHouse } from "./read.ts"

const DEFAULT_RANGE = Duration.toMillis("24 hours")

/** Where they are reached, what was counted until then is the answer. */
const LIMITS = {
  max_execution_time: 1,
  timeout_overflow_mode: "break",
  max_rows_to_read: "100000000",
  read_overflow_mode: "break",
  max_rows_to_group_by: 100_000,
  group_by_overflow_mode: "any"
}

export const names =
  (clickHouse: typeof ClickHouse.Service, table: string) =>
  (since?: Date): Effect.Effect<EventNames, SinkError> =>
    Effect.gen(function* () {
      const from = since ?? new Date((yield* Clock.currentTimeMillis) - DEFAULT_RANGE)
      const count = (column: string) =>
        clickHouse
          .query(
            `SELECT ${column}, count() AS events
             FROM {table:Identifier}
             WHERE event_date_time >= {since:DateTime64(6, 'UTC')}
             GROUP BY ${column}
             ORDER BY events DESC, ${column}
             LIMIT 100`,
            { table, since: toClickHouse(from) },
            { settings: { ...SETTINGS, ...LIMITS } }
          )
          .pipe(Effect.map((rows) => rows.map(([name, events]) => ({ name: String(name), events: Number(events) }))))
      const [eventTypes, environments] = yield* Effect.all([count("event_type"), count("environment")])
      return new EventNames({ eventTypes, environments, since: from })
    }).pipe(Effect.withSpan("EventLog.names", { kind: "client" }))
