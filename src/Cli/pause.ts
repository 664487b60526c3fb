/** `clickhouse-outbox pause` and `clickhouse-outbox resume` */
import * as Command from "@effect/cli/Command"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { layer, Operations } from "../Operations.ts"
import { actor } from "./actor.ts"
import { remark } from "./options.ts"
import { withServices } from "./services.ts"
import { times, visible } from "./text.ts"

export const pause = Command.make(
  "pause",
  { reason: remark("reason", "Why, for whoever finds them paused.") },
  ({ reason }) =>
    Effect.gen(function* () {
      yield* (yield* Operations).pause({ reason, actor: yield* actor })
      yield* Console.log('paused: no relay takes a batch until "clickhouse-outbox resume"')
    }).pipe(withServices(layer))
).pipe(Command.withDescription("Lets no relay take a batch until resume. Those in flight are finished."))

export const resume = Command.make("resume", {}, () =>
  Effect.gen(function* () {
    const { pausedAt, pausedBy, reason } = yield* (yield* Operations).resume({ actor: yield* actor })
    const time = yield* times
    yield* Console.log(`resumed: were paused by ${visible(pausedBy)} at ${time(pausedAt)}: ${visible(reason)}`)
  }).pipe(withServices(layer))
).pipe(Command.withDescription("Lets relays take batches again."))
