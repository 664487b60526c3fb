/** Whether ClickHouse can be used. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { ClickHouse } from "../ClickHouse.ts"
import { readTableState } from "../ClickHouseSink.ts"
import type * as Config from "../Config.ts"
import { inTime } from "../internal/reachable.ts"
import { DatabaseState } from "../schema/systems.ts"

export const serverState = (
  clickHouse: typeof ClickHouse.Service,
  config: Pick<Config.ClickHouse, "table" | "cluster">
): Effect.Effect<DatabaseState> =>
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
  }).pipe(inTime, Effect.withSpan("EventLog.server", { kind: "client" }))
