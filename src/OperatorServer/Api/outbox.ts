/** Where everything is: batches, events, incidents, and what operators changed. */
import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as OpenApi from "@effect/platform/OpenApi"
import * as Schema from "effect/Schema"
import { BatchState, BatchStatus, Incident, Whereabouts } from "../../schema/deliveries.ts"
import { OutboxStatus } from "../../schema/status.ts"
import { Authorization, about, NotFound } from "./common.ts"
import { AFTER, AuditPage, EventIdParam, fromId, next, oneOf, optional, Page, page, strict } from "./fields.ts"

const Id = Schema.Int.pipe(Schema.positive(), Schema.brand("BatchId"))

const BatchQuery = Schema.Struct({
  ...page,
  after: optional(fromId(Id, AFTER)),
  state: optional(oneOf(BatchState, "What became of it.")),
  originId: optional(fromId(Id, "Those that were cut out of this batch, and itself.")).pipe(
    Schema.fromKey("origin_id")
  ),
  parentId: optional(fromId(Id, "Those that this batch was cut into.")).pipe(Schema.fromKey("parent_id"))
}).annotations(strict)

const IncidentQuery = Schema.Struct({
  ...page,
  state: optional(oneOf(Incident.fields.state, "Whether it is over."))
}).annotations(strict)

const BatchPage = Schema.Struct({ batches: Schema.Array(BatchStatus), next })
const IncidentPage = Schema.Struct({ incidents: Schema.Array(Incident), next })

const id = HttpApiSchema.param("id", fromId(Id, "The batch's id."))
const eventId = HttpApiSchema.param("event_id", EventIdParam)

export const outbox = HttpApiGroup.make("outbox")
  .add(
    HttpApiEndpoint.get("status", "/status")
      .addSuccess(OutboxStatus)
      .annotateContext(about("Show the status", "How far behind the outbox is, and why."))
  )
  .add(
    HttpApiEndpoint.get("batches", "/batches")
      .setUrlParams(BatchQuery)
      .addSuccess(BatchPage)
      .annotateContext(about("List batches", "Newest first."))
  )
  .add(
    HttpApiEndpoint.get("batch")`/batches/${id}`
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
      .setUrlParams(IncidentQuery)
      .addSuccess(IncidentPage)
      .annotateContext(about("List incidents", "Times in which good events did not get through. Newest first."))
  )
  .add(
    HttpApiEndpoint.get("audit", "/audit")
      .setUrlParams(Page)
      .addSuccess(AuditPage)
      .annotateContext(about("Show the audit trail", "What operators changed, newest first."))
  )
  .middleware(Authorization)
  .annotateContext(OpenApi.annotations({ description: "Where everything is." }))
