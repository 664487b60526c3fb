/** What is asked of failures, and what is answered. */
import * as Schema from "effect/Schema"
import { ErrorClass } from "../../SinkError.ts"
import { column } from "../../schema/columns.ts"
import { BatchFailure, FailedEvent, FailureId, FailureState } from "../../schema/failures.ts"
import {
  AFTER,
  fromId,
  jsonObject,
  limit,
  next,
  note,
  oneOf,
  optional,
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

export const FailureQuery = Schema.Struct({
  ...filter,
  state: optional(oneOf(FailureState, "What became of it.")),
  code: optional(whole(0, MAX_INTEGER, CODE)),
  after: optional(fromId(FailureId, AFTER)),
  limit
}).annotations(strict)

/** More would make one transaction long, in which all of them are locked. */
const MAX_IDS = 500

const ids = Schema.Array(FailureId).pipe(
  Schema.minItems(1, { message: () => "Must not be empty" }),
  Schema.maxItems(MAX_IDS, { message: () => `Must have ${MAX_IDS} ids at most` })
)

const IDS = "Failures, by their ids. Those that are not there, or not in the right state any more, stay as they are."

/** A filter, or the word that it is to be all. */
export const ReplayRequest = Schema.Struct({
  ...filter,
  ids: optional(ids.annotations({ description: "One of these." })),
  code: optional(Schema.Int.pipe(Schema.between(0, MAX_INTEGER)).annotations({ description: CODE })),
  all: optional(Schema.Literal(true).annotations({ description: "Every open failure. Instead of a filter." }))
}).annotations(strict)

/** Ids in a query, as `1,2,3`. */
export const ArrivalsQuery = Schema.Struct({
  ids: Schema.compose(
    Schema.split(","),
    Schema.Array(fromId(FailureId, "")).pipe(Schema.maxItems(MAX_IDS))
  ).annotations({
    ...saying(`Expected 1 to ${MAX_IDS} ids, as 1,2,3`),
    jsonSchema: { type: "string", pattern: "^\\d+(,\\d+)*$", description: `Up to ${MAX_IDS} failures, as 1,2,3.` }
  })
}).annotations(strict)

const reason = note("Why its events are not to be delivered, for the audit trail.")

export const DiscardRequest = Schema.Struct({ reason }).annotations(strict)

export const DiscardAllRequest = Schema.Struct({ ids: ids.annotations({ description: IDS }), reason }).annotations(
  strict
)

export const ReopenAllRequest = Schema.Struct({ ids: ids.annotations({ description: IDS }) }).annotations(strict)

/** What a change of several failures came to. */
export const Changed = Schema.Struct({
  failures: Schema.Array(FailureId).annotations({ description: "Those that were changed." })
})

export const ResolveRequest = Schema.Struct({
  note: note("How somebody took care of it, for the audit trail.")
}).annotations(strict)

/** Only the form: the service reads the body's text, in which no number has lost a digit, and says what is wrong. */
export const CorrectionRequest = Schema.Struct({
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
export const EventAnswer = Schema.Struct({
  ...FailedEvent.fields,
  eventContext: column("event_context", jsonObject("Every digit as it was published.")),
  metadataVersion: column("metadata_version", Schema.NonNegative)
}).annotations({ identifier: "FailedEvent" })

export const FailurePage = Schema.Struct({ failures: Schema.Array(BatchFailure), next })
export const EventPage = Schema.Struct({ events: Schema.Array(EventAnswer), next })
export const FailureAnswer = Schema.Struct({ ...BatchFailure.fields, ...EventPage.fields })
