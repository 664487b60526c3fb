/** The endpoints: each asks a service, and answers with what that says. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Answer from "./Answer.ts"
import * as Body from "./Body.ts"
import { eventLog } from "./Http/eventLog.ts"
import { failures } from "./Http/failures.ts"
import { outbox } from "./Http/outbox.ts"
import { overview } from "./Http/overview.ts"
import { relay } from "./Http/relay.ts"

/** Requests that ask ClickHouse at the same time: slow ones are in the way of none that asks Postgres alone. */
const CLICKHOUSE_CONCURRENCY = 2

/** @param concurrency requests that use Postgres at the same time */
export const layer = (concurrency: number, tokenRequired: boolean) =>
  Layer.unwrapEffect(
    Effect.gen(function* () {
      const ask = atATime(yield* Effect.makeSemaphore(concurrency))
      const askClickHouse = atATime(yield* Effect.makeSemaphore(CLICKHOUSE_CONCURRENCY))
      return Layer.mergeAll(
        failures(ask, yield* Body.makeLarge),
        outbox(ask),
        relay(ask),
        overview(ask, askClickHouse, tokenRequired),
        eventLog(askClickHouse)
      )
    })
  )

const atATime =
  (turns: Effect.Semaphore): Answer.Ask =>
  (effect) =>
    Effect.catchAll(turns.withPermits(1)(effect), Answer.toProblem)
