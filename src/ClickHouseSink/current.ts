/** Questions that must not be answered by a server that lags behind. docs/architecture.md#replicas has the reasons. */
import { randomUUID } from "node:crypto"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { ClickHouse, Options } from "../ClickHouse.ts"
import type * as Config from "../Config.ts"
import { SinkError } from "../SinkError.ts"
import type { TableState } from "../schema/eventTable.ts"

/** How often a balancer may send a question elsewhere than the request before it. */
const OTHER_SERVERS = 20

/** Asks a question of a server that has all that was committed before. */
type Current = <A>(ask: (options?: Options) => Effect.Effect<A, SinkError>) => Effect.Effect<A, SinkError>

/**
 * Waits until a server has nothing of the table left to fetch, and returns how to ask that server.
 *
 * A balancer may send each request elsewhere. A session exists on one server only, and whoever is asked in it without
 * having it refuses.
 */
export const withNothingBehind = (
  clickHouse: typeof ClickHouse.Service,
  { requestTimeout, table }: Pick<Config.ClickHouse, "table" | "requestTimeout">,
  { replication }: TableState
): Effect.Effect<Current, SinkError> => {
  if (replication === "none") return Effect.succeed<Current>((ask) => ask())
  if (replication === "shared") {
    return Effect.succeed<Current>((ask) => ask({ settings: { select_sequential_consistency: 1 } }))
  }
  return Effect.suspend(() => {
    const sessionId = randomUUID()
    const current: Current = (ask) =>
      ask({ sessionId, settings: { session_check: 1 } }).pipe(
        Effect.retry({
          while: ({ code }) => code === SESSION_NOT_FOUND || code === SESSION_IS_LOCKED,
          schedule: Schedule.recurs(OTHER_SERVERS).pipe(Schedule.addDelay(() => "10 millis"))
        }),
        Effect.mapError((error) => {
          if (error.code === SESSION_NOT_FOUND) return askedElsewhere
          return error.code === SESSION_IS_LOCKED ? stillBusy(error) : error
        })
      )
    return clickHouse
      .command(
        "SYSTEM SYNC REPLICA {table:Identifier} LIGHTWEIGHT",
        { table },
        // How long it waits: less than the request's own limit, so that it is ClickHouse that says why.
        { sessionId, settings: { receive_timeout: Math.max(1, Math.floor(Duration.toSeconds(requestTimeout) / 2)) } }
      )
      .pipe(Effect.as(current))
  })
}

const SESSION_NOT_FOUND = 372
const SESSION_IS_LOCKED = 373

/** With the request before, which has been answered. */
const stillBusy = ({ reason }: SinkError) =>
  new SinkError({ errorClass: "in-doubt", code: SESSION_IS_LOCKED, reason, settled: false })

const askedElsewhere = new SinkError({
  errorClass: "in-doubt",
  code: SESSION_NOT_FOUND,
  reason: `CLICKHOUSE_URL leads to another server with each request: ${OTHER_SERVERS} in a row did not reach the one that was found to lag behind no more`,
  settled: false
})
