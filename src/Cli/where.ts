/** `clickhouse-outbox where` */
import * as Command from "@effect/cli/Command"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { layer, Operations, type Place, Whereabouts } from "../Operations.ts"
import { eventId, json } from "./options.ts"
import { withServices } from "./services.ts"
import { jsonLine, times, visible } from "./text.ts"

export const where = Command.make("where", { eventId, json }, ({ eventId, json }) =>
  Effect.gen(function* () {
    const found = yield* (yield* Operations).where(eventId)
    yield* Console.log(json ? jsonLine(encode(found)) : yield* describe(found))
  }).pipe(withServices(layer))
).pipe(Command.withDescription("Says where an event is: pending, delivered or failed, in which batch and failure."))

const encode = Schema.encodeSync(Whereabouts)

const describe = ({ eventId, places, state }: Whereabouts): Effect.Effect<string> =>
  Effect.map(times, (time) => [`event ${eventId} is ${state}`, ...places.map(describePlace(time))].join("\n"))

const describePlace =
  (time: (time: Date) => string) =>
  (place: Place): string => {
    const { batchId, batchState, deliveredAt, failureId, failureState, replayedAt } = place
    return [
      "",
      `  ${place.state}: ${visible(place.eventType)} of ${place.eventDateTime}`,
      `  published ${time(place.publishedAt)}`,
      batchId === null ? "  in no batch yet" : `  in batch ${batchId}${batchState === null ? "" : `, ${batchState}`}`,
      ...(failureId === null ? [] : [`  in failure ${failureId}, ${failureState}`]),
      ...(failureId === null && batchState === "failed" ? ["  its failure was closed, and deleted since"] : []),
      ...(deliveredAt === null ? [] : [`  delivered ${time(deliveredAt)}`]),
      ...(replayedAt === null ? [] : [`  replayed ${time(replayedAt)}`])
    ].join("\n")
  }
