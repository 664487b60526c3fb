/** The endpoints of how everything is. */
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { EventLog } from "../../EventLog.ts"
import { Operations } from "../../Operations.ts"
import { relayId } from "../../RelayId.ts"
import { isUnavailable } from "../../Unavailable.ts"
import { version } from "../../Version.ts"
import type { Ask } from "../Answer.ts"
import type { OverviewQuery } from "../Api/overview.ts"
import { Api } from "../Api.ts"
import * as Problem from "../Problem.ts"

const MAX_RANGE = Duration.toMillis("24 hours")
const MAX_BUCKETS = 1_000

/** Charts are for looking at: nobody sees more, and each bucket costs. */
const checkRange = ({ since, step }: typeof OverviewQuery.Type): Effect.Effect<void, Problem.Problem> =>
  Effect.flatMap(Clock.currentTimeMillis, (now) => {
    const range = now - (since?.getTime() ?? now)
    const refuse = (field: string, reason: string) =>
      Effect.fail(Problem.make("bad-request", "Nothing was read", [new Problem.Issue({ field, reason })]))
    if (range < 0) return refuse("since", "Must not be in the future")
    // Whoever asks for all of it has taken some time to ask.
    if (range > MAX_RANGE + 60_000) return refuse("since", "Must not be longer ago than 24 hours")
    return step !== undefined && range / 1_000 / step > MAX_BUCKETS
      ? refuse("step", `Would be more than ${MAX_BUCKETS} buckets; make it longer`)
      : Effect.void
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
          Effect.zipRight(
            checkRange(urlParams),
            ask(operations.overview({ since: urlParams.since, stepSeconds: urlParams.step }))
          )
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
