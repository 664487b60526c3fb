/** What has arrived in ClickHouse. */
import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as OpenApi from "@effect/platform/OpenApi"
import * as Schema from "effect/Schema"
import { EventCursor, EventNames, LoggedEvent, LoggedEvents } from "../../schema/eventLog.ts"
import * as Problem from "../Problem.ts"
import { Authorization, about, EventIdParam, limit, NotFound, optional, saying, strict, text, time } from "./fields.ts"

const TooMuch = Problem.ofStatus(422, "Too much would have to be read. A type or a shorter time makes it less.")

const eventTime = {
  since: optional(time("Of this time or later; an hour before `until`, or now, unless set.")),
  until: optional(time("Of a time before this."))
}

const eventType = optional(text("Of this type."))

const EventLogQuery = Schema.Struct({
  type: eventType,
  environment: optional(text("Of this environment.")),
  ...eventTime,
  before: optional(
    EventCursor.annotations({
      ...saying("Expected `next` of the page before"),
      description: "`next` of the page before."
    })
  ),
  limit: limit(200)
}).annotations(strict)

const EventNamesQuery = Schema.Struct({
  since: optional(time("Of this time or later; 24 hours ago unless set."))
}).annotations(strict)

/** Where to look first, for callers who know. */
const LoggedEventQuery = Schema.Struct({
  type: eventType,
  since: optional(time("Of this time or later.")),
  until: eventTime.until
}).annotations(strict)

const FoundEvents = Schema.Struct({
  events: Schema.NonEmptyArray(LoggedEvent).annotations({
    description: "More than one if several were published under the id."
  })
})

const eventId = HttpApiSchema.param("event_id", EventIdParam)

export const eventLog = HttpApiGroup.make("eventLog")
  .add(
    HttpApiEndpoint.get("list", "/event-log")
      .setUrlParams(EventLogQuery)
      .addSuccess(LoggedEvents)
      .addError(TooMuch)
      .annotateContext(
        about("List delivered events", "As ClickHouse has them, newest first. All that is given must hold.")
      )
  )
  .add(
    HttpApiEndpoint.get("names", "/event-log/names")
      .setUrlParams(EventNamesQuery)
      .addSuccess(EventNames)
      .addError(TooMuch)
      .annotateContext(about("List types and environments", "Of delivered events, the most frequent first."))
  )
  .add(
    HttpApiEndpoint.get("event")`/event-log/${eventId}`
      .setUrlParams(LoggedEventQuery)
      .addSuccess(FoundEvents)
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
