/** The outbox as a whole: what is where, how it fares, and whether its relays deliver. */
import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as OpenApi from "@effect/platform/OpenApi"
import * as Schema from "effect/Schema"
import { BatchId } from "../../Batch.ts"
import { column } from "../../schema/columns.ts"
import { BatchState, BatchStatus, Incident, Whereabouts } from "../../schema/deliveries.ts"
import { Overview } from "../../schema/overview.ts"
import { OutboxStatus, RelayPause } from "../../schema/status.ts"
import { DatabaseState, RelayState } from "../../schema/systems.ts"
import {
  Actor,
  AFTER,
  AuditPage,
  Authorization,
  about,
  BodyErrors,
  Conflict,
  EventIdParam,
  fromId,
  NotFound,
  next,
  note,
  oneOf,
  optional,
  Page,
  page,
  strict,
  whole
} from "./fields.ts"

// What is where: batches, events, incidents, and what operators changed.

const BatchQuery = Schema.Struct({
  ...page,
  after: optional(fromId(BatchId, AFTER)),
  state: optional(oneOf(BatchState, "What became of it.")),
  originId: optional(fromId(BatchId, "This batch, and those that it was split into, by whatever steps.")).pipe(
    Schema.fromKey("origin_id")
  ),
  parentId: optional(fromId(BatchId, "Those that this batch was split into.")).pipe(Schema.fromKey("parent_id"))
}).annotations(strict)

const IncidentQuery = Schema.Struct({
  ...page,
  state: optional(oneOf(Incident.fields.state, "Whether it is over."))
}).annotations(strict)

const BatchPage = Schema.Struct({ batches: Schema.Array(BatchStatus), next })
const IncidentPage = Schema.Struct({ incidents: Schema.Array(Incident), next })

const id = HttpApiSchema.param("id", fromId(BatchId, "The batch's id."))
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

// How it fares: now and over time, both databases, the relays.

const MAX_MINUTES = 24 * 60
const MAX_STEP = 3_600

const OverviewQuery = Schema.Struct({
  // Not a time: the caller's clock may be wrong.
  minutes: optional(whole(1, MAX_MINUTES, "How far back; 15 unless set.")),
  step: optional(whole(1, MAX_STEP, "Seconds of a bucket; so many that there are 120 buckets at most, unless set."))
}).annotations(strict)

const Session = Schema.Struct({
  version: Schema.String.annotations({ description: "Of the server." }),
  tokenRequired: column("token_required", Schema.Boolean),
  relay: Schema.String.annotations({ description: "Which relay answers, as `host/pid`." })
}).annotations({ identifier: "Session" })

const Systems = Schema.Struct({
  postgres: DatabaseState,
  clickhouse: DatabaseState,
  relays: Schema.NullOr(Schema.Array(RelayState)).annotations({
    description: "Those that have delivered something lately, or are connected. Null while Postgres does not answer."
  })
}).annotations({ identifier: "Systems" })

export const overview = HttpApiGroup.make("overview")
  .add(
    HttpApiEndpoint.get("session", "/session")
      .addSuccess(Session)
      .annotateContext(about("Show whether a token is needed", "Whoever is answered is let in everywhere."))
  )
  .add(
    HttpApiEndpoint.get("overview", "/overview")
      .setUrlParams(OverviewQuery)
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
      .addSuccess(Systems)
      .annotateContext(
        about("Show the databases and the relays", "Asks both databases, and answers also where one does not.")
      )
  )
  .middleware(Authorization)
  .annotateContext(OpenApi.annotations({ description: "How everything is." }))

// Whether its relays deliver.

const PauseRequest = Schema.Struct({
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
      .addError(BodyErrors)
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
