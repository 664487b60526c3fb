/** The endpoints of how everything is. */
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { EventLog } from "../../EventLog.ts"
import { relayId } from "../../internal/relayId.ts"
import { version } from "../../internal/version.ts"
import { DEFAULT_MINUTES, Operations, type OverviewRange } from "../../Operations.ts"
import { isUnavailable } from "../../Postgres.ts"
import type { Ask } from "../Answer.ts"
import type { OverviewQuery } from "../Api/overview.ts"
import { Api } from "../Api.ts"
import * as Problem from "../Problem.ts"

const MAX_BUCKETS = 1_000

/** Charts are for looking at: nobody sees more buckets, and each of them costs. */
const readRange = ({
  minutes = DEFAULT_MINUTES,
  step
}: typeof OverviewQuery.Type): Effect.Effect<OverviewRange, Problem.Problem> =>
  step !== undefined && (minutes * 60) / step > MAX_BUCKETS
    ? Effect.fail(Problem.make("bad-request", "Nothing was read", [TOO_MANY_BUCKETS]))
    : Effect.map(Clock.currentTimeMillis, (now) => ({ since: new Date(now - minutes * 60_000), stepSeconds: step }))

const TOO_MANY_BUCKETS = new Problem.Issue({
  field: "step",
  reason: `Would be more than ${MAX_BUCKETS} buckets; make it longer`
})

/** One after the other, on one connection. Who does not answer the first is not asked for more. */
const postgresAndRelays = ({ postgres, relays }: typeof Operations.Service) =>
  Effect.flatMap(postgres, (postgres) =>
    Effect.when(relays, () => postgres.reachable).pipe(
      Effect.map(Option.getOrNull),
      Effect.catchIf(isUnavailable, () => Effect.succeed(null)),
      Effect.map((relays) => ({ postgres, relays }))
    )
  )

export const overview = (ask: Ask, askClickHouse: Ask, tokenRequired: boolean) =>
  HttpApiBuilder.group(Api, "overview", (handlers) =>
    Effect.map(Effect.all([EventLog, Operations]), ([eventLog, operations]) =>
      handlers
        .handle("session", () => Effect.succeed({ version, tokenRequired, relay: relayId }))
        .handle("overview", ({ urlParams }) =>
          Effect.flatMap(readRange(urlParams), (range) => ask(operations.overview(range)))
        )
        // Each in its own turn: who waits for one database keeps nobody from the other.
        .handle("systems", () =>
          Effect.map(
            Effect.all([askClickHouse(eventLog.server), ask(postgresAndRelays(operations))], { concurrency: 2 }),
            ([clickhouse, others]) => ({ clickhouse, ...others })
          )
        )
    )
  )
