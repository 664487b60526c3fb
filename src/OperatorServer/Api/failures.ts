/** What ClickHouse refused, and what to do about it. */
import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as OpenApi from "@effect/platform/OpenApi"
import * as Schema from "effect/Schema"
import { ErrorClass } from "../../SinkError.ts"
import { column } from "../../schema/columns.ts"
import { Arrivals, BatchFailure, FailedEvent, FailureId, FailureState, Replayed } from "../../schema/failures.ts"
import * as Problem from "../Problem.ts"
import {
  Actor,
  AFTER,
  AuditPage,
  Authorization,
  about,
  BodyErrors,
  bodyErrors,
  Conflict,
  EventIdParam,
  fromId,
  jsonObject,
  limit,
  NotFound,
  next,
  note,
  oneOf,
  optional,
  Page,
  saying,
  strict,
  text,
  time,
  whole
} from "./fields.ts"

const MAX_INTEGER = 2_147_483_647

const CODE = "ClickHouse's error code, such as 117."

const filter = {
  class: optional(oneOf(ErrorClass, "Of what kind the refusal was.")),
  eventType: optional(text("One of its events has this type.")).pipe(Schema.fromKey("event_type")),
  since: optional(time("Refused for the last time at this time or later.")),
  until: optional(time("Refused for the last time before this."))
}

const FailureQuery = Schema.Struct({
  ...filter,
  state: optional(oneOf(FailureState, "What became of it.")),
  code: optional(whole(0, MAX_INTEGER, CODE)),
  after: optional(fromId(FailureId, AFTER)),
  limit: limit(500)
}).annotations(strict)

/** All of them are locked in one transaction, which more would make long. */
const MAX_IDS = 500

const ids = Schema.Array(FailureId).pipe(
  Schema.minItems(1, { message: () => "Must not be empty" }),
  Schema.maxItems(MAX_IDS, { message: () => `Must have ${MAX_IDS} ids at most` })
)

const IDS = "Failures, by their ids. Those that are not there, or not in the right state any more, stay as they are."

/** A filter, or `all`: an empty filter must not replay everything by mistake. */
const ReplayRequest = Schema.Struct({
  ...filter,
  ids: optional(ids.annotations({ description: "One of these." })),
  code: optional(Schema.Int.pipe(Schema.between(0, MAX_INTEGER)).annotations({ description: CODE })),
  all: optional(Schema.Literal(true).annotations({ description: "Every open failure. Instead of a filter." }))
}).annotations(strict)

/** Ids in a query, as `1,2,3`. */
const ArrivalsQuery = Schema.Struct({
  ids: Schema.compose(
    Schema.split(","),
    Schema.Array(fromId(FailureId, "")).pipe(Schema.maxItems(MAX_IDS))
  ).annotations({
    ...saying(`Expected 1 to ${MAX_IDS} ids, as 1,2,3`),
    jsonSchema: { type: "string", pattern: "^\\d+(,\\d+)*$", description: `Up to ${MAX_IDS} failures, as 1,2,3.` }
  })
}).annotations(strict)

const why = note("Why its events are not to be delivered, for the audit trail.")

const DiscardRequest = Schema.Struct({ note: why }).annotations(strict)

const DiscardAllRequest = Schema.Struct({ ids: ids.annotations({ description: IDS }), note: why }).annotations(strict)

const ReopenAllRequest = Schema.Struct({ ids: ids.annotations({ description: IDS }) }).annotations(strict)

/** What changing several failures came to. */
const Changed = Schema.Struct({
  failures: Schema.Array(FailureId).annotations({ description: "Those that were changed." })
})

const ResolveRequest = Schema.Struct({
  note: note("How somebody took care of it, for the audit trail.")
}).annotations(strict)

/**
 * For clients and the documents. The server hands the body's text to the service, which checks it: no number loses a digit.
 */
const CorrectionRequest = Schema.Struct({
  event_type: optional(Schema.String),
  event_date_time: optional(Schema.String).annotations({
    description: "RFC 3339, to the microsecond at most."
  }),
  event_context: optional(
    jsonObject("The whole new context. Its numbers keep every digit that they are written with.")
  ),
  metadata_version: optional(Schema.NonNegative)
})

/** As `toJson` writes it. */
const EventAnswer = Schema.Struct({
  ...FailedEvent.fields,
  eventContext: column("event_context", jsonObject("Every digit as it was published.")),
  metadataVersion: column("metadata_version", Schema.NonNegative)
}).annotations({ identifier: "FailedEvent" })

const FailurePage = Schema.Struct({ failures: Schema.Array(BatchFailure), next })
const EventPage = Schema.Struct({ events: Schema.Array(EventAnswer), next })
const FailureAnswer = Schema.Struct({ ...BatchFailure.fields, ...EventPage.fields })

const id = HttpApiSchema.param("id", fromId(FailureId, "The failure's id."))
const eventId = HttpApiSchema.param("event_id", EventIdParam)

const LargeBodyErrors = bodyErrors("9 MiB")
const Unprocessable = Problem.ofStatus(422, "The event could not be published like this; `issues` says why.")

const REPLAYED_ONCE = "Each event is published once, however often this is asked for."

export const failures = HttpApiGroup.make("failures")
  .add(
    HttpApiEndpoint.get("list", "/failures")
      .setUrlParams(FailureQuery)
      .addSuccess(FailurePage)
      .annotateContext(about("List failures", "What ClickHouse refused, newest first. All that is given must hold."))
  )
  .add(
    HttpApiEndpoint.get("get")`/failures/${id}`
      .addSuccess(FailureAnswer)
      .addError(NotFound)
      .annotateContext(about("Show a failure", "With the first of its events, whole."))
  )
  .add(
    HttpApiEndpoint.get("events")`/failures/${id}/events`
      .setUrlParams(Page)
      .addSuccess(EventPage)
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
      .addSuccess(EventAnswer)
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
      .setPayload(CorrectionRequest)
      .addSuccess(EventAnswer)
      .addError(LargeBodyErrors)
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
      .setPayload(ReplayRequest)
      .addSuccess(Replayed)
      .addError(BodyErrors)
      .annotateContext(
        about("Replay all that match", `Every open failure for which all that is given holds. ${REPLAYED_ONCE}`)
      )
  )
  .add(
    HttpApiEndpoint.get("arrivals", "/failures/arrivals")
      .setUrlParams(ArrivalsQuery)
      .addSuccess(Arrivals)
      .annotateContext(
        about(
          "Watch replayed events arrive",
          "Of these failures' replayed events, how many are on their way, delivered, or refused again."
        )
      )
  )
  .add(
    HttpApiEndpoint.post("discard")`/failures/${id}/discard`
      .setHeaders(Actor)
      .setPayload(DiscardRequest)
      .addSuccess(BatchFailure)
      .addError(BodyErrors)
      .addError(NotFound)
      .addError(Conflict)
      .annotateContext(about("Discard a failure", "What was not replayed is never delivered."))
  )
  .add(
    HttpApiEndpoint.post("resolve")`/failures/${id}/resolve`
      .setHeaders(Actor)
      .setPayload(ResolveRequest)
      .addSuccess(BatchFailure)
      .addError(BodyErrors)
      .addError(NotFound)
      .addError(Conflict)
      .annotateContext(about("Resolve a failure", "Somebody took care of it in another way."))
  )
  .add(
    HttpApiEndpoint.post("discardAll", "/failures/discard")
      .setHeaders(Actor)
      .setPayload(DiscardAllRequest)
      .addSuccess(Changed)
      .addError(BodyErrors)
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
      .setPayload(ReopenAllRequest)
      .addSuccess(Changed)
      .addError(BodyErrors)
      .annotateContext(
        about("Reopen several failures", "In one transaction. Those that are open or replayed stay as they are.")
      )
  )
  .middleware(Authorization)
  .annotateContext(OpenApi.annotations({ description: "What ClickHouse refused, and what to do about it." }))
