/** What ClickHouse refused, and what to do about it. */
import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as OpenApi from "@effect/platform/OpenApi"
import { Arrivals, BatchFailure, FailureId, Replayed } from "../../schema/failures.ts"
import * as Problem from "../Problem.ts"
import { Authorization, about, BodyRefused, bodyRefused, Conflict, NotFound } from "./common.ts"
import * as Schemas from "./failureSchemas.ts"
import { Actor, AuditPage, EventIdParam, fromId, Page } from "./fields.ts"

const id = HttpApiSchema.param("id", fromId(FailureId, "The failure's id."))
const eventId = HttpApiSchema.param("event_id", EventIdParam)

const LargeBodyRefused = bodyRefused("9 MiB")
const Unprocessable = Problem.ofStatus(422, "The event could not be published like this; `issues` says why.")

const REPLAYED_ONCE = "Each event is published once, however often this is asked for."

export const failures = HttpApiGroup.make("failures")
  .add(
    HttpApiEndpoint.get("list", "/failures")
      .setUrlParams(Schemas.FailureQuery)
      .addSuccess(Schemas.FailurePage)
      .annotateContext(about("List failures", "What ClickHouse refused, newest first. All that is given must hold."))
  )
  .add(
    HttpApiEndpoint.get("get")`/failures/${id}`
      .addSuccess(Schemas.FailureAnswer)
      .addError(NotFound)
      .annotateContext(about("Show a failure", "With the first of its events, whole."))
  )
  .add(
    HttpApiEndpoint.get("events")`/failures/${id}/events`
      .setUrlParams(Page)
      .addSuccess(Schemas.EventPage)
      .addError(NotFound)
      .annotateContext(
        about(
          "List a failure's events",
          "In the order in which they were published. A page of heavy events may end before `limit`; `next` tells."
        )
      )
  )
  .add(
    HttpApiEndpoint.get("event")`/failures/${id}/events/${eventId}`
      .addSuccess(Schemas.EventAnswer)
      .addError(NotFound)
      .annotateContext(about("Show an event", "Whole, as it was published or corrected."))
  )
  .add(
    HttpApiEndpoint.get("audit")`/failures/${id}/audit`
      .setUrlParams(Page)
      .addSuccess(AuditPage)
      .addError(NotFound)
      .annotateContext(about("Show what was done about a failure", "Newest first."))
  )
  .add(
    HttpApiEndpoint.patch("correct")`/failures/${id}/events/${eventId}`
      .setHeaders(Actor)
      .setPayload(Schemas.CorrectionRequest)
      .addSuccess(Schemas.EventAnswer)
      .addError(LargeBodyRefused)
      .addError(NotFound)
      .addError(Conflict)
      .addError(Unprocessable)
      .annotateContext(
        about("Correct an event", "What it becomes is checked as publishing checks it. It is sent when it is replayed.")
      )
  )
  .add(
    HttpApiEndpoint.post("replayEvent")`/failures/${id}/events/${eventId}/replay`
      .setHeaders(Actor)
      .addSuccess(Replayed)
      .addError(NotFound)
      .addError(Conflict)
      .annotateContext(about("Replay one event", `The last one closes the failure. ${REPLAYED_ONCE}`))
  )
  .add(
    HttpApiEndpoint.post("replay")`/failures/${id}/replay`
      .setHeaders(Actor)
      .addSuccess(Replayed)
      .addError(NotFound)
      .addError(Conflict)
      .annotateContext(about("Replay a failure", `Every event of it that was not replayed yet. ${REPLAYED_ONCE}`))
  )
  .add(
    HttpApiEndpoint.post("replayAll", "/failures/replay")
      .setHeaders(Actor)
      .setPayload(Schemas.ReplayRequest)
      .addSuccess(Replayed)
      .addError(BodyRefused)
      .annotateContext(
        about("Replay all that match", `Every open failure for which all that is given holds. ${REPLAYED_ONCE}`)
      )
  )
  .add(
    HttpApiEndpoint.get("arrivals", "/failures/arrivals")
      .setUrlParams(Schemas.ArrivalsQuery)
      .addSuccess(Arrivals)
      .annotateContext(
        about("Watch replayed events arrive", "Of these failures' events that were replayed, how many have got where.")
      )
  )
  .add(
    HttpApiEndpoint.post("discard")`/failures/${id}/discard`
      .setHeaders(Actor)
      .setPayload(Schemas.DiscardRequest)
      .addSuccess(BatchFailure)
      .addError(BodyRefused)
      .addError(NotFound)
      .addError(Conflict)
      .annotateContext(about("Discard a failure", "What was not replayed is never delivered."))
  )
  .add(
    HttpApiEndpoint.post("resolve")`/failures/${id}/resolve`
      .setHeaders(Actor)
      .setPayload(Schemas.ResolveRequest)
      .addSuccess(BatchFailure)
      .addError(BodyRefused)
      .addError(NotFound)
      .addError(Conflict)
      .annotateContext(about("Resolve a failure", "Somebody took care of it in another way."))
  )
  .add(
    HttpApiEndpoint.post("discardAll", "/failures/discard")
      .setHeaders(Actor)
      .setPayload(Schemas.DiscardAllRequest)
      .addSuccess(Schemas.Changed)
      .addError(BodyRefused)
      .annotateContext(about("Discard several failures", "In one transaction. Those that are closed stay as they are."))
  )
  .add(
    HttpApiEndpoint.post("reopen")`/failures/${id}/reopen`
      .setHeaders(Actor)
      .addSuccess(BatchFailure)
      .addError(NotFound)
      .addError(Conflict)
      .annotateContext(
        about(
          "Reopen a failure",
          "Takes back that it was discarded or resolved. What was replayed is published, and stays so."
        )
      )
  )
  .add(
    HttpApiEndpoint.post("reopenAll", "/failures/reopen")
      .setHeaders(Actor)
      .setPayload(Schemas.ReopenAllRequest)
      .addSuccess(Schemas.Changed)
      .addError(BodyRefused)
      .annotateContext(
        about("Reopen several failures", "In one transaction. Those that are open or replayed stay as they are.")
      )
  )
  .middleware(Authorization)
  .annotateContext(OpenApi.annotations({ description: "What ClickHouse refused, and what to do about it." }))
