/**
 * What a problem is, `application/problem+json` of RFC 9457, and which kinds there are.
 *
 * Part of the contract, so nothing of the server is imported here. `Problems.ts` makes those that the server answers.
 */
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as Schema from "effect/Schema"

/** Status and title of each kind of problem. `type` is the kind, as a URN. */
const KINDS = {
  "bad-request": [400, "The request is not valid"],
  unauthorized: [401, "The token is missing or wrong"],
  forbidden: [403, "The request does not come from this machine"],
  "not-permitted": [403, "The server's role may not do this"],
  "no-such-endpoint": [404, "There is no such endpoint"],
  "failure-not-found": [404, "There is no such failure"],
  "event-not-found": [404, "There is no such event"],
  "batch-not-found": [404, "There is no such batch"],
  "failure-closed": [409, "The failure is closed"],
  "failure-not-reopened": [409, "The failure cannot be reopened"],
  "event-replayed": [409, "The event was replayed"],
  "already-paused": [409, "Relays are paused"],
  "not-paused": [409, "Relays are not paused"],
  "too-large": [413, "The body is too large"],
  "no-json": [415, "The body is not declared as JSON"],
  "correction-invalid": [422, "The event could not be published like this"],
  "too-costly": [422, "Too much would have to be read"],
  bug: [500, "A bug"],
  overloaded: [503, "Too many requests wait"],
  "postgres-unavailable": [503, "Postgres does not answer"],
  "clickhouse-unavailable": [503, "ClickHouse does not answer"]
} as const

/** One thing that is wrong with a request. */
export class Issue extends Schema.Class<Issue>("ProblemIssue")({
  field: Schema.String.annotations({ description: "A parameter, or a path into the body; empty if it is the whole." }),
  reason: Schema.String
}) {}

type Kind = keyof typeof KINDS

const fields = {
  type: Schema.String.annotations({
    description: "The kind of problem, for programs.",
    examples: ["urn:clickhouse-outbox:failure-closed"]
  }),
  title: Schema.String.annotations({ description: "The kind of problem, for people." }),
  status: Schema.Int,
  detail: Schema.String.annotations({ description: "What happened here, and what to do." }),
  issues: Schema.optionalWith(Schema.Array(Issue), { exact: true }).annotations({
    description: "Everything that is wrong, where that may be several things."
  })
}

/**
 * Why a request was not done. `type` says it for programs, `detail` for people.
 *
 * @since 0.1.0
 * @category errors
 */
export class Problem extends Schema.TaggedError<Problem>()("Problem", fields) {
  override get message(): string {
    return this.detail
  }
}

const URN = "urn:clickhouse-outbox:"

export const make = (kind: Kind, detail: string, issues?: ReadonlyArray<Issue>): Problem => {
  const [status, title] = KINDS[kind]
  return new Problem({ type: URN + kind, title, status, detail, ...(issues !== undefined && { issues }) })
}

const wire = (status: number) =>
  Schema.Struct({
    ...fields,
    status: Schema.Int.pipe(Schema.filter((given) => given === status, { jsonSchema: {} }))
  })

/** Problems of one status, as endpoints declare them. The tag is for programs in TypeScript, and not sent. */
export const ofStatus = (status: number, description: string) =>
  Schema.transform(wire(status), Schema.typeSchema(Problem), {
    strict: true,
    decode: (problem) => new Problem(problem),
    encode: ({ _tag, ...problem }) => problem
  }).pipe(HttpApiSchema.withEncoding({ kind: "Json", contentType: "application/problem+json" }), (schema) =>
    schema.annotations(HttpApiSchema.annotations({ status, description }))
  )

export const encode = (problem: Problem): unknown => Schema.encodeSync(wire(problem.status))(problem)
