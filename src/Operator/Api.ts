/**
 * The operator API's contract: what can be asked, with what, and what is answered.
 *
 * Nothing of the server is imported here, so a program elsewhere, or a page in a browser, can derive a client from it.
 */
import * as HttpApi from "@effect/platform/HttpApi"
import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiMiddleware from "@effect/platform/HttpApiMiddleware"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as HttpApiSecurity from "@effect/platform/HttpApiSecurity"
import * as OpenApi from "@effect/platform/OpenApi"
import * as Schema from "effect/Schema"
import { BatchFailure, Replayed } from "../BatchFailures/model.ts"
import { EventNames, LoggedEvents } from "../EventLog/model.ts"
import { BatchStatus, Whereabouts } from "../Operations/model.ts"
import { Overview } from "../Operations/overviewModel.ts"
import { OutboxStatus } from "../OutboxStore/status.ts"
import * as Document from "./OpenApi.ts"
import * as Problem from "./Problem.ts"
import * as Wire from "./Wire.ts"

export { FailureId } from "../Batch.ts"
export { EventId } from "../Event.ts"
export { EventCursor } from "../EventLog/model.ts"
export { Problem } from "./Problem.ts"

const BadRequest = Problem.ofStatus(400, "A parameter or the body is not valid; `issues` says what and why.")
const Unauthorized = Problem.ofStatus(401, "The server asks for a token, and this is not it.")
const Forbidden = Problem.ofStatus(
  403,
  "The server asks for no token, and the request is not from its own machine; or its role in Postgres may not do this."
)
const NotFound = Problem.ofStatus(404, "There is nothing of this id.")
const Conflict = Problem.ofStatus(409, "Somebody was faster. Nothing was changed.")
const body = (limit: string) =>
  Schema.Union(
    Problem.ofStatus(413, `The body is larger than ${limit}.`),
    Problem.ofStatus(415, "The body's content type is not `application/json`.")
  )
const Body = body("64 KiB")
const LargeBody = body("9 MiB")
const Unprocessable = Problem.ofStatus(422, "The event could not be published like this; `issues` says why.")
const Bug = Problem.ofStatus(500, "A bug, which the server's log shows.")
const TooMuch = Problem.ofStatus(422, "Too much would have to be read. A type or a shorter time makes it less.")
const Unavailable = Problem.ofStatus(503, "A database does not answer. Nothing is lost by trying again.")

/** Lets whoever has the token in, or everybody where the server has none; see `Authorization.ts`. */
export class Authorization extends HttpApiMiddleware.Tag<Authorization>()("clickhouse-outbox/Operator/Authorization", {
  failure: Unauthorized,
  security: {
    token: HttpApiSecurity.bearer.pipe(
      HttpApiSecurity.annotate(OpenApi.Description, "`OUTBOX_HTTP_TOKEN` of the server, if it has one.")
    )
  }
}) {}

const id = HttpApiSchema.param("id", Wire.FailureIdParam)
const eventId = HttpApiSchema.param("event_id", Wire.EventIdParam)
const batchId = HttpApiSchema.param("id", Wire.BatchIdParam)

const about = (summary: string, description: string) => OpenApi.annotations({ summary, description })

const REPLAYED_ONCE = "Each event is published once, however often this is asked for."

const failures = HttpApiGroup.make("failures")
  .add(
    HttpApiEndpoint.get("list", "/failures")
      .setUrlParams(Wire.FailureQuery)
      .addSuccess(Wire.FailurePage)
      .annotateContext(about("List failures", "What ClickHouse refused, newest first. All that is given must hold."))
  )
  .add(
    HttpApiEndpoint.get("get")`/failures/${id}`
      .addSuccess(Wire.FailureAnswer)
      .addError(NotFound)
      .annotateContext(about("Show a failure", "With the first of its events, whole."))
  )
  .add(
    HttpApiEndpoint.get("events")`/failures/${id}/events`
      .setUrlParams(Wire.Page)
      .addSuccess(Wire.EventPage)
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
      .addSuccess(Wire.EventAnswer)
      .addError(NotFound)
      .annotateContext(about("Show an event", "Whole, as it was published or corrected."))
  )
  .add(
    HttpApiEndpoint.get("audit")`/failures/${id}/audit`
      .setUrlParams(Wire.Page)
      .addSuccess(Wire.AuditPage)
      .addError(NotFound)
      .annotateContext(about("Show what was done about a failure", "Newest first."))
  )
  .add(
    HttpApiEndpoint.patch("correct")`/failures/${id}/events/${eventId}`
      .setHeaders(Wire.Actor)
      .setPayload(Wire.CorrectionRequest)
      .addSuccess(Wire.EventAnswer)
      .addError(LargeBody)
      .addError(NotFound)
      .addError(Conflict)
      .addError(Unprocessable)
      .annotateContext(
        about("Correct an event", "What it becomes is checked as publishing checks it. It is sent when it is replayed.")
      )
  )
  .add(
    HttpApiEndpoint.post("replayEvent")`/failures/${id}/events/${eventId}/replay`
      .setHeaders(Wire.Actor)
      .addSuccess(Replayed)
      .addError(NotFound)
      .addError(Conflict)
      .annotateContext(about("Replay one event", `The last one closes the failure. ${REPLAYED_ONCE}`))
  )
  .add(
    HttpApiEndpoint.post("replay")`/failures/${id}/replay`
      .setHeaders(Wire.Actor)
      .addSuccess(Replayed)
      .addError(NotFound)
      .addError(Conflict)
      .annotateContext(about("Replay a failure", `Every event of it that was not replayed yet. ${REPLAYED_ONCE}`))
  )
  .add(
    HttpApiEndpoint.post("replayAll", "/failures/replay")
      .setHeaders(Wire.Actor)
      .setPayload(Wire.ReplayRequest)
      .addSuccess(Replayed)
      .addError(Body)
      .annotateContext(
        about("Replay all that match", `Every open failure for which all that is given holds. ${REPLAYED_ONCE}`)
      )
  )
  .add(
    HttpApiEndpoint.post("discard")`/failures/${id}/discard`
      .setHeaders(Wire.Actor)
      .setPayload(Wire.DiscardRequest)
      .addSuccess(BatchFailure)
      .addError(Body)
      .addError(NotFound)
      .addError(Conflict)
      .annotateContext(about("Discard a failure", "What was not replayed is never delivered."))
  )
  .add(
    HttpApiEndpoint.post("resolve")`/failures/${id}/resolve`
      .setHeaders(Wire.Actor)
      .setPayload(Wire.ResolveRequest)
      .addSuccess(BatchFailure)
      .addError(Body)
      .addError(NotFound)
      .addError(Conflict)
      .annotateContext(about("Resolve a failure", "Somebody took care of it in another way."))
  )
  .add(
    HttpApiEndpoint.post("discardAll", "/failures/discard")
      .setHeaders(Wire.Actor)
      .setPayload(Wire.DiscardAllRequest)
      .addSuccess(Wire.Changed)
      .addError(Body)
      .annotateContext(about("Discard several failures", "In one transaction. Those that are closed stay as they are."))
  )
  .add(
    HttpApiEndpoint.post("reopen")`/failures/${id}/reopen`
      .setHeaders(Wire.Actor)
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
      .setHeaders(Wire.Actor)
      .setPayload(Wire.ReopenAllRequest)
      .addSuccess(Wire.Changed)
      .addError(Body)
      .annotateContext(
        about("Reopen several failures", "In one transaction. Those that are open or replayed stay as they are.")
      )
  )
  .middleware(Authorization)
  .annotateContext(OpenApi.annotations({ description: "What ClickHouse refused, and what to do about it." }))

const outbox = HttpApiGroup.make("outbox")
  .add(
    HttpApiEndpoint.get("status", "/status")
      .addSuccess(OutboxStatus)
      .annotateContext(about("Show the status", "How far behind the outbox is, and why."))
  )
  .add(
    HttpApiEndpoint.get("batches", "/batches")
      .setUrlParams(Wire.BatchQuery)
      .addSuccess(Wire.BatchPage)
      .annotateContext(about("List batches", "Newest first."))
  )
  .add(
    HttpApiEndpoint.get("batch")`/batches/${batchId}`
      .addSuccess(BatchStatus)
      .addError(NotFound)
      .annotateContext(about("Show a batch", "Its state, its attempts and its last error."))
  )
  .add(
    HttpApiEndpoint.get("where")`/events/${eventId}`
      .addSuccess(Whereabouts)
      .addError(NotFound)
      .annotateContext(about("Find an event", "Every place where it is or was. Reads the whole outbox."))
  )
  .add(
    HttpApiEndpoint.get("incidents", "/incidents")
      .setUrlParams(Wire.IncidentQuery)
      .addSuccess(Wire.IncidentPage)
      .annotateContext(about("List incidents", "Times in which good events did not get through. Newest first."))
  )
  .add(
    HttpApiEndpoint.get("audit", "/audit")
      .setUrlParams(Wire.Page)
      .addSuccess(Wire.AuditPage)
      .annotateContext(about("Show the audit trail", "What operators changed, newest first."))
  )
  .middleware(Authorization)
  .annotateContext(OpenApi.annotations({ description: "Where everything is." }))

const overview = HttpApiGroup.make("overview")
  .add(
    HttpApiEndpoint.get("session", "/session")
      .addSuccess(Wire.Session)
      .annotateContext(about("Show whether a token is needed", "Whoever is answered is let in everywhere."))
  )
  .add(
    HttpApiEndpoint.get("overview", "/overview")
      .setUrlParams(Wire.OverviewQuery)
      .addSuccess(Overview)
      .annotateContext(
        about(
          "Show how the outbox fares",
          "Now, and over time: throughput, backlog, latency and failures of all relays together, as the manifest has them."
        )
      )
  )
  .add(
    HttpApiEndpoint.get("systems", "/systems")
      .addSuccess(Wire.Systems)
      .annotateContext(
        about("Show the databases and the relays", "Asks both databases, and answers also where one does not.")
      )
  )
  .middleware(Authorization)
  .annotateContext(OpenApi.annotations({ description: "How everything is." }))

const eventLog = HttpApiGroup.make("eventLog")
  .add(
    HttpApiEndpoint.get("list", "/event-log")
      .setUrlParams(Wire.EventLogQuery)
      .addSuccess(LoggedEvents)
      .addError(TooMuch)
      .annotateContext(
        about("List delivered events", "As ClickHouse has them, newest first. All that is given must hold.")
      )
  )
  .add(
    HttpApiEndpoint.get("names", "/event-log/names")
      .setUrlParams(Wire.EventNamesQuery)
      .addSuccess(EventNames)
      .annotateContext(about("List types and environments", "Of delivered events, the most frequent first."))
  )
  .add(
    HttpApiEndpoint.get("event")`/event-log/${eventId}`
      .setUrlParams(Wire.LoggedEventQuery)
      .addSuccess(Wire.FoundEvents)
      .addError(NotFound)
      .addError(TooMuch)
      .annotateContext(
        about(
          "Show a delivered event",
          "Looked for around the time that its id tells, and then everywhere, unless told where. An event's places in the outbox tell its type and its time, with which it is found at once."
        )
      )
  )
  .middleware(Authorization)
  .annotateContext(OpenApi.annotations({ description: "What has arrived in ClickHouse." }))

const relay = HttpApiGroup.make("relay")
  .add(
    HttpApiEndpoint.get("state", "/relay")
      .addSuccess(Wire.RelayAnswer)
      .annotateContext(about("Show whether the relay is held", "By whom, since when and why."))
  )
  .add(
    HttpApiEndpoint.post("hold", "/relay/hold")
      .setHeaders(Wire.Actor)
      .setPayload(Wire.HoldRequest)
      .addSuccess(Wire.RelayAnswer)
      .addError(Body)
      .addError(Conflict)
      .annotateContext(
        about("Hold the relay", "No relay of the outbox takes a batch until it is resumed. Publishing goes on.")
      )
  )
  .add(
    HttpApiEndpoint.post("resume", "/relay/resume")
      .setHeaders(Wire.Actor)
      .addSuccess(Wire.RelayAnswer)
      .addError(Conflict)
      .annotateContext(about("Resume the relay", "Ends the hold."))
  )
  .middleware(Authorization)
  .annotateContext(OpenApi.annotations({ description: "All relays of the outbox together." }))

const Everywhere = Schema.Union(BadRequest, Forbidden, Bug, Unavailable)

/**
 * @since 0.1.0
 * @category contract
 */
export class Api extends HttpApi.make("operator")
  .add(failures)
  .add(outbox)
  .add(relay)
  .add(overview)
  .add(eventLog)
  .addError(Everywhere)
  .prefix("/api")
  .annotateContext(
    Document.annotations({
      title: "clickhouse-outbox",
      version: "1",
      description:
        "What operators see and do: read, correct and replay what ClickHouse refused, see how far behind the outbox is, hold its relays. Whatever goes wrong is answered as `application/problem+json` with a `detail` that says what to do."
    })
  ) {}
