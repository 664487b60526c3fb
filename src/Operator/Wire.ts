/**
 * What goes over the wire: parameters, bodies, and models as JSON under the names of their columns.
 *
 * A parameter or a member of a body that is not known is refused: a misspelt filter must not match everything.
 */
import type * as Arr from "effect/Array"
import * as Schema from "effect/Schema"
import { AuditEntry } from "../BatchFailures/audit.ts"
import { BatchFailure, FailedEvent, FailureId, FailureState } from "../BatchFailures/model.ts"
import { EventId } from "../Event.ts"
import { EventCursor, LoggedEvent } from "../EventLog/model.ts"
import { BatchState, BatchStatus, Incident } from "../Operations/model.ts"
import { DatabaseState, RelayState } from "../Operations/systemsModel.ts"
import { RelayHold } from "../OutboxStore/model.ts"
import { column } from "../Row.ts"
import { ErrorClass } from "../SinkError.ts"

/** Everything that is wrong is said at once. */
const strict = { parseOptions: { errors: "all", onExcessProperty: "error" } } as const

const optional = { exact: true } as const

const MAX_INTEGER = 2_147_483_647

const saying = (message: string) => ({ message: () => ({ message, override: true }) })

const whole = (minimum: number, maximum: number, description: string) =>
  Schema.NumberFromString.pipe(Schema.int(), Schema.between(minimum, maximum)).annotations({
    ...saying(`Expected a whole number from ${minimum} to ${maximum}`),
    jsonSchema: { type: "integer", minimum, maximum, description }
  })

const oneOf = <A extends Arr.NonEmptyReadonlyArray<string>>(states: Schema.Literal<A>, description: string) =>
  states.annotations({ ...saying(`Expected one of ${states.literals.join(", ")}`), description })

const CODE = "ClickHouse's error code, such as 117."

/** https://www.rfc-editor.org/rfc/rfc3339#section-5.6 */
const RFC_3339 = /^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:[Zz]|[+-]\d{2}:\d{2})$/

const time = (description: string) =>
  Schema.String.pipe(
    Schema.filter((text) => RFC_3339.test(text) && !Number.isNaN(Date.parse(text)), {
      // In a query + is a space.
      message: () => "Expected an RFC 3339 time such as 2026-01-31T12:00:00Z; in a URL write + as %2B",
      jsonSchema: { type: "string", format: "date-time", description }
    }),
    Schema.compose(Schema.Date)
  )

/** Postgres has no U+0000 in text. */
const text = (description: string) =>
  Schema.String.pipe(
    Schema.pattern(/^[^\0]*$/, { message: () => "Must not contain the character U+0000", jsonSchema: {} })
  ).annotations({ description })

const MAX_NOTE = 1_000

const note = (description: string) =>
  Schema.compose(
    Schema.Trim,
    text(description).pipe(
      Schema.minLength(1, { message: () => "Must not be empty" }),
      Schema.maxLength(MAX_NOTE, { message: () => `Must have ${MAX_NOTE} characters at most` })
    )
  )

const fromId = <A>(id: Schema.Schema<A, number>, description: string) =>
  Schema.compose(Schema.NumberFromString, id).annotations({
    ...saying("Expected a whole number of at least 1"),
    jsonSchema: { type: "integer", minimum: 1, description }
  })

const Id = Schema.Int.pipe(Schema.positive())

export const FailureIdParam = fromId(FailureId, "The failure's id.")
export const BatchIdParam = fromId(Id, "The batch's id.")
export const EventIdParam = EventId.annotations({
  ...saying("Expected a uuid"),
  description: "The event's id, a uuid."
})

const limit = Schema.optionalWith(whole(1, 500, "Rows at most; 50 unless set."), optional)

const AFTER = "`next` of the page before."

const page = { after: Schema.optionalWith(fromId(Id, AFTER), optional), limit }

export const Page = Schema.Struct(page).annotations(strict)

const filter = {
  class: Schema.optionalWith(oneOf(ErrorClass, "Of what kind the refusal was."), optional),
  eventType: Schema.optionalWith(text("One of its events has this type."), optional).pipe(Schema.fromKey("event_type")),
  since: Schema.optionalWith(time("Refused for the last time at this time or later."), optional),
  until: Schema.optionalWith(time("Refused for the last time before this."), optional)
}

export const FailureQuery = Schema.Struct({
  ...filter,
  state: Schema.optionalWith(oneOf(FailureState, "What became of it."), optional),
  code: Schema.optionalWith(whole(0, MAX_INTEGER, CODE), optional),
  after: Schema.optionalWith(fromId(FailureId, AFTER), optional),
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
  ids: Schema.optionalWith(ids.annotations({ description: "One of these." }), optional),
  code: Schema.optionalWith(
    Schema.Int.pipe(Schema.between(0, MAX_INTEGER)).annotations({ description: CODE }),
    optional
  ),
  all: Schema.optionalWith(
    Schema.Literal(true).annotations({ description: "Every open failure. Instead of a filter." }),
    optional
  )
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

export const HoldRequest = Schema.Struct({
  reason: note("Why no relay is to take a batch.")
}).annotations(strict)

const jsonObject = (description: string) =>
  Schema.Record({ key: Schema.String, value: Schema.Unknown }).annotations({
    description,
    jsonSchema: { type: "object", description, additionalProperties: true }
  })

/** Only the form: the service reads the body's text, in which no number has lost a digit, and says what is wrong. */
export const CorrectionRequest = Schema.Struct({
  event_type: Schema.optionalWith(Schema.String, optional),
  event_date_time: Schema.optionalWith(Schema.String, optional).annotations({
    description: "RFC 3339, to the microsecond at most."
  }),
  event_context: Schema.optionalWith(
    jsonObject("The whole new context. Its numbers keep every digit that they are written with."),
    optional
  ),
  metadata_version: Schema.optionalWith(Schema.NonNegative, optional)
})

export const BatchQuery = Schema.Struct({
  ...page,
  state: Schema.optionalWith(oneOf(BatchState, "What became of it."), optional),
  originId: Schema.optionalWith(fromId(Id, "Those that were cut out of this batch, and itself."), optional).pipe(
    Schema.fromKey("origin_id")
  ),
  parentId: Schema.optionalWith(fromId(Id, "Those that this batch was cut into."), optional).pipe(
    Schema.fromKey("parent_id")
  )
}).annotations(strict)

export const IncidentQuery = Schema.Struct({
  ...page,
  state: Schema.optionalWith(oneOf(Incident.fields.state, "Whether it is over."), optional)
}).annotations(strict)

const MAX_STEP = 3_600

export const OverviewQuery = Schema.Struct({
  since: Schema.optionalWith(time("How far back; 15 minutes unless set, and 24 hours at most."), optional),
  step: Schema.optionalWith(
    whole(1, MAX_STEP, "Seconds of a bucket; so many that there are 120 buckets at most, unless set."),
    optional
  )
}).annotations(strict)

const eventTime = {
  since: Schema.optionalWith(time("Of this time or later; an hour before `until`, or now, unless set."), optional),
  until: Schema.optionalWith(time("Of a time before this."), optional)
}

const eventType = Schema.optionalWith(text("Of this type."), optional)

export const EventLogQuery = Schema.Struct({
  type: eventType,
  environment: Schema.optionalWith(text("Of this environment."), optional),
  ...eventTime,
  before: Schema.optionalWith(
    EventCursor.annotations({
      ...saying("Expected `next` of the page before"),
      description: "`next` of the page before."
    }),
    optional
  ),
  limit: Schema.optionalWith(whole(1, 200, "Rows at most; 50 unless set."), optional)
}).annotations(strict)

export const EventNamesQuery = Schema.Struct({
  since: Schema.optionalWith(time("Of this time or later; 24 hours ago unless set."), optional)
}).annotations(strict)

/** Where to look first, by somebody who knows. */
export const LoggedEventQuery = Schema.Struct({
  type: eventType,
  since: Schema.optionalWith(time("Of this time or later."), optional),
  until: eventTime.until
}).annotations(strict)

/** ASCII: what a header may hold beyond it arrives differently from each client. */
export const Actor = Schema.Struct({
  actor: Schema.optionalWith(
    Schema.String.pipe(
      Schema.pattern(/^[\x20-\x7e]{1,255}$/, {
        message: () => "Expected 1 to 255 printable ASCII characters",
        description: "Who is asking, for the audit trail; `api` unless set."
      })
    ),
    optional
  ).pipe(Schema.fromKey("x-operator"))
})

const next = Schema.NullOr(Id).annotations({
  description: "What to give as `after` for the page that follows; null if there is none."
})

/** As `toJson` writes it. */
export const EventAnswer = Schema.Struct({
  ...FailedEvent.fields,
  eventContext: column("event_context", jsonObject("Every digit as it was published.")),
  metadataVersion: column("metadata_version", Schema.NonNegative)
}).annotations({ identifier: "FailedEvent" })

const Entry = Schema.Struct({
  ...AuditEntry.fields,
  before: jsonObject("What was changed, as it was."),
  after: jsonObject("What was changed, as it is.")
}).annotations({ identifier: "AuditEntry" })

export const FailurePage = Schema.Struct({ failures: Schema.Array(BatchFailure), next })
export const EventPage = Schema.Struct({ events: Schema.Array(EventAnswer), next })
export const FailureAnswer = Schema.Struct({ ...BatchFailure.fields, ...EventPage.fields })
export const AuditPage = Schema.Struct({ entries: Schema.Array(Entry), next })
export const BatchPage = Schema.Struct({ batches: Schema.Array(BatchStatus), next })
export const IncidentPage = Schema.Struct({ incidents: Schema.Array(Incident), next })
export const RelayAnswer = Schema.Struct({
  held: Schema.NullOr(RelayHold).annotations({ description: "Null while relays take batches." })
})

export const Session = Schema.Struct({
  version: Schema.String.annotations({ description: "Of the server." }),
  tokenRequired: column("token_required", Schema.Boolean),
  relay: Schema.String.annotations({ description: "Which relay answers, as `host/pid`." })
}).annotations({ identifier: "Session" })

export const Systems = Schema.Struct({
  postgres: DatabaseState,
  clickhouse: DatabaseState,
  relays: Schema.NullOr(Schema.Array(RelayState)).annotations({
    description: "Those that have delivered something lately, or are connected. Null while Postgres does not answer."
  })
}).annotations({ identifier: "Systems" })

export const FoundEvents = Schema.Struct({
  events: Schema.NonEmptyArray(LoggedEvent).annotations({
    description: "More than one if several were published under the id."
  })
})
