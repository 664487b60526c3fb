/**
 * A program that publishes, with telemetry: each request publishes two events, one by one, and logs it. Prints what it
 * did, a line for each event.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Event from "../../../src/Event.ts"
import * as EventPublisher from "../../../src/EventPublisher.ts"
import * as Logging from "../../../src/internal/logging.ts"
import * as Postgres from "../../../src/Postgres.ts"
import * as Telemetry from "../../../src/Telemetry.ts"
import { transaction } from "../../../src/Transaction.ts"

const [, , requests = "1", note = ""] = process.argv

const publish = (step: number) =>
  Effect.gen(function* () {
    const { spanId, traceId } = yield* Effect.currentSpan
    const eventId = yield* EventPublisher.publish(
      Event.make({ eventType: "user_created", eventContext: { step, note } })
    )
    yield* Console.log(JSON.stringify({ eventId, spanId, traceId }))
  })

const handle = Effect.gen(function* () {
  yield* transaction(Effect.zipRight(publish(1), publish(2)))
  yield* Effect.logInfo("A user was created").pipe(Effect.annotateLogs({ "user.count": 1, "user.plan": "free" }))
})

Effect.forEach(
  Array.from({ length: Number(requests) }),
  () => Effect.withSpan(handle, "POST /users", { kind: "server", root: true }),
  { discard: true }
).pipe(
  Effect.provide(EventPublisher.layerConfig),
  Effect.provide(Postgres.layerConfig),
  Effect.provide(Telemetry.layerConfig("users")),
  Effect.provide(Logging.layerConfig),
  NodeRuntime.runMain({ disablePrettyLogger: true })
)
