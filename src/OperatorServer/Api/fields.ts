/**
 * What the groups have in common: who is let in, which problems are answered, and what parameters, bodies and answers are
 * made of.
 *
 * An unknown parameter or member of a body is an error: a misspelt filter must not match everything.
 */
import * as HttpApiMiddleware from "@effect/platform/HttpApiMiddleware"
import * as HttpApiSecurity from "@effect/platform/HttpApiSecurity"
import * as OpenApi from "@effect/platform/OpenApi"
import type * as Arr from "effect/Array"
import * as Context from "effect/Context"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { EventId } from "../../Event.ts"
import type { Role } from "../../internal/callers.ts"
import { isTime } from "../../internal/rfc3339.ts"
import * as Audit from "../../schema/audit.ts"
import { DEFAULT_LIMIT } from "../../schema/columns.ts"
import * as Problem from "../Problem.ts"

const BadRequest = Problem.ofStatus(400, "A parameter or the body is not valid; `issues` says what and why.")
const Unauthorized = Problem.ofStatus(401, "The server asks who this is, and no token or proxy says so.")
const Forbidden = Problem.ofStatus(
  403,
  "Whoever asks may only read, or was led here by another site's page; or the server asks for no token, and the request is not from its own machine; or its role in Postgres may not do this."
)
export const NotFound = Problem.ofStatus(404, "There is nothing with this id.")
export const Conflict = Problem.ofStatus(
  409,
  "It is not in the state that this needs, as when somebody was faster. Nothing was changed."
)
export const bodyErrors = (limit: string) =>
  Schema.Union(
    Problem.ofStatus(413, `The body is larger than ${limit}.`),
    Problem.ofStatus(415, "The body's content type is not `application/json`.")
  )
export const BodyErrors = bodyErrors("64 KiB")
const Bug = Problem.ofStatus(500, "A bug, which the server's log shows.")
const Unavailable = Problem.ofStatus(
  503,
  "A database does not answer, or too many requests wait already. Trying again is safe."
)

/** What every endpoint may answer. */
export const Everywhere = Schema.Union(BadRequest, Forbidden, Bug, Unavailable)

/** Who asks. */
export class Caller extends Context.Tag("clickhouse-outbox/OperatorServer/Caller")<
  Caller,
  {
    /** As whom the audit trail has them. None where nobody has a name, so that `X-Operator` says it. */
    readonly name: Option.Option<Audit.Actor>
    readonly role: Role
  }
>() {}

/** Finds out who asks, and lets nobody change anything who may only read; see `../Access.ts`. */
export class Authorization extends HttpApiMiddleware.Tag<Authorization>()(
  "clickhouse-outbox/OperatorServer/Authorization",
  {
    provides: Caller,
    failure: Schema.Union(Unauthorized, Forbidden),
    security: {
      token: HttpApiSecurity.bearer.pipe(
        HttpApiSecurity.annotate(
          OpenApi.Description,
          "A token of one's own, or `OUTBOX_HTTP_TOKEN` of the server, if it asks for one."
        )
      )
    }
  }
) {}

export const about = (summary: string, description: string) => OpenApi.annotations({ summary, description })

/** Reports everything that is wrong at once. */
export const strict = { parseOptions: { errors: "all", onExcessProperty: "error" } } as const

export const optional = <A, I>(schema: Schema.Schema<A, I>) => Schema.optionalWith(schema, { exact: true })

export const saying = (message: string) => ({ message: () => ({ message, override: true }) })

export const whole = (minimum: number, maximum: number, description: string) =>
  Schema.NumberFromString.pipe(Schema.int(), Schema.between(minimum, maximum)).annotations({
    ...saying(`Expected a whole number from ${minimum} to ${maximum}`),
    jsonSchema: { type: "integer", minimum, maximum, description }
  })

export const oneOf = <A extends Arr.NonEmptyReadonlyArray<string>>(states: Schema.Literal<A>, description: string) =>
  states.annotations({ ...saying(`Expected one of ${states.literals.join(", ")}`), description })

export const time = (description: string) =>
  Schema.String.pipe(
    Schema.filter((text) => isTime(text), {
      // In a query + is a space.
      message: () => "Expected an RFC 3339 time such as 2026-01-31T12:00:00Z; in a URL write + as %2B",
      jsonSchema: { type: "string", format: "date-time", description }
    }),
    Schema.compose(Schema.Date)
  )

/** Postgres cannot store U+0000 in text. */
export const text = (description: string) =>
  Schema.String.pipe(
    Schema.pattern(/^[^\0]*$/, { message: () => "Must not contain the character U+0000", jsonSchema: {} })
  ).annotations({ description })

const MAX_NOTE = 1_000

export const note = (description: string) =>
  Schema.compose(
    Schema.Trim,
    text(description).pipe(
      Schema.minLength(1, { message: () => "Must not be empty" }),
      Schema.maxLength(MAX_NOTE, { message: () => `Must have ${MAX_NOTE} characters at most` })
    )
  )

export const fromId = <A>(id: Schema.Schema<A, number>, description: string) =>
  Schema.compose(Schema.NumberFromString, id).annotations({
    ...saying("Expected a whole number of at least 1"),
    jsonSchema: { type: "integer", minimum: 1, description }
  })

const Id = Schema.Int.pipe(Schema.positive())

export const EventIdParam = EventId.annotations({
  ...saying("Expected a uuid"),
  description: "The event's id, a uuid."
})

export const limit = (maximum: number) => optional(whole(1, maximum, `Rows at most; ${DEFAULT_LIMIT} unless set.`))

export const AFTER = "`next` of the page before."

export const page = { after: optional(fromId(Id, AFTER)), limit: limit(500) }

export const Page = Schema.Struct(page).annotations(strict)

export const jsonObject = (description: string) =>
  Schema.Record({ key: Schema.String, value: Schema.Unknown }).annotations({
    description,
    jsonSchema: { type: "object", description, additionalProperties: true }
  })

/** The actor of a request that nobody's name comes with. */
export const DEFAULT_ACTOR = Audit.Actor.make("api")

/** ASCII only: clients encode other characters of a header each in their own way. */
export const Actor = Schema.Struct({
  actor: optional(
    Schema.String.pipe(
      Schema.pattern(/^[\x20-\x7e]{1,255}$/, {
        message: () => "Expected 1 to 255 printable ASCII characters",
        description: `Who is asking, for the audit trail; \`${DEFAULT_ACTOR}\` unless set. Ignored by a server that knows people by name.`
      }),
      Schema.compose(Audit.Actor)
    )
  ).pipe(Schema.fromKey("x-operator"))
})

export const next = Schema.NullOr(Id).annotations({
  description: "What to give as `after` for the next page; null if there is none."
})

const Entry = Schema.Struct({
  ...Audit.AuditEntry.fields,
  before: jsonObject("What was changed, as it was."),
  after: jsonObject("What was changed, as it is.")
}).annotations({ identifier: "AuditEntry" })

export const AuditPage = Schema.Struct({ entries: Schema.Array(Entry), next })
