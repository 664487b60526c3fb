/** All relays of the outbox together. */
import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as OpenApi from "@effect/platform/OpenApi"
import * as Schema from "effect/Schema"
import { RelayPause } from "../../schema/status.ts"
import { Authorization, about, BodyRefused, Conflict } from "./common.ts"
import { Actor, note, strict } from "./fields.ts"

export const PauseRequest = Schema.Struct({
  reason: note("Why no relay is to take a batch.")
}).annotations(strict)

const RelayAnswer = Schema.Struct({
  paused: Schema.NullOr(RelayPause).annotations({ description: "Null while relays take batches." })
})

export const relay = HttpApiGroup.make("relay")
  .add(
    HttpApiEndpoint.get("state", "/relay")
      .addSuccess(RelayAnswer)
      .annotateContext(about("Show whether relays are paused", "By whom, since when and why."))
  )
  .add(
    HttpApiEndpoint.post("pause", "/relay/pause")
      .setHeaders(Actor)
      .setPayload(PauseRequest)
      .addSuccess(RelayAnswer)
      .addError(BodyRefused)
      .addError(Conflict)
      .annotateContext(
        about("Pause the relays", "No relay of the outbox takes a batch until it is resumed. Publishing goes on.")
      )
  )
  .add(
    HttpApiEndpoint.post("resume", "/relay/resume")
      .setHeaders(Actor)
      .addSuccess(RelayAnswer)
      .addError(Conflict)
      .annotateContext(about("Resume the relays", "Relays take batches again."))
  )
  .middleware(Authorization)
  .annotateContext(OpenApi.annotations({ description: "All relays of the outbox together." }))
