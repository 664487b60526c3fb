/** Answers: JSON in which no digit is lost, and problems for whatever goes wrong. */
import { HttpApiDecodeError } from "@effect/platform/HttpApiError"
import type * as HttpApp from "@effect/platform/HttpApp"
import { RouteNotFound } from "@effect/platform/HttpServerError"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import type { SqlError } from "@effect/sql/SqlError"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as ParseResult from "effect/ParseResult"
import { fromRawMembers } from "../internal/rawMembers.ts"
import { isNotPermitted, isUnavailable } from "../Postgres.ts"
import type { SinkError } from "../SinkError.ts"
import type { BatchNotFound, EventNotFound } from "../schema/deliveries.ts"
import type { LoggedEventNotFound, TooCostly } from "../schema/eventLog.ts"
import {
  type CorrectionInvalid,
  type EventReplayed,
  type FailedEvent,
  type FailedEventNotFound,
  type FailureClosed,
  type FailureNotFound,
  type FailureNotReopened,
  toJson
} from "../schema/failures.ts"
import type { AlreadyPaused, NotPaused } from "../schema/systems.ts"
import * as Problem from "./Problem.ts"

/** Members that are JSON already, after those of `rest`. */
export const json = (
  rest: object,
  members: Readonly<Record<string, string>>
): HttpServerResponse.HttpServerResponse => {
  const given = Object.entries(rest).map(([name, value]) => [name, JSON.stringify(value)] as const)
  return rawJson(fromRawMembers([...given, ...Object.entries(members)]))
}

export const event = (event: FailedEvent): HttpServerResponse.HttpServerResponse => rawJson(toJson(event))

export const list = <A>(items: ReadonlyArray<A>, toJson: (item: A) => string): string => `[${items.map(toJson).join()}]`

const rawJson = (text: string) => HttpServerResponse.text(text, { contentType: "application/json" })

/** How the services say no. */
type Refusal =
  | AlreadyPaused
  | BatchNotFound
  | CorrectionInvalid
  | EventNotFound
  | EventReplayed
  | FailedEventNotFound
  | FailureClosed
  | FailureNotFound
  | FailureNotReopened
  | LoggedEventNotFound
  | NotPaused
  | TooCostly

export const toProblem = (
  error: Refusal | SinkError | SqlError | Problem.Problem
): Effect.Effect<never, Problem.Problem> => {
  switch (error._tag) {
    case "Problem":
      return Effect.fail(error)
    case "SqlError":
      if (isNotPermitted(error)) return notPermitted
      return isUnavailable(error)
        ? Effect.zipRight(Effect.logWarning("The operator API cannot use the outbox", error), unavailable)
        : Effect.die(error)
    case "SinkError":
      return Problem.fail("clickhouse-unavailable", `ClickHouse does not answer this: ${error.reason}`)
    case "CorrectionInvalid":
      return Effect.fail(
        Problem.make(
          "correction-invalid",
          "Nothing was changed. Correct what `issues` says and try again",
          error.issues.map(({ field, reason }) => new Problem.Issue({ field, reason }))
        )
      )
    default:
      return Problem.fail(REFUSALS[error._tag], error.message)
  }
}

/** Lets a few at a time use a database, once their request has arrived, and says what went wrong there as a problem. */
export type Ask = <A, E extends Parameters<typeof toProblem>[0], R>(
  effect: Effect.Effect<A, E, R>
) => Effect.Effect<A, Problem.Problem, R>

const REFUSALS = {
  AlreadyPaused: "already-paused",
  BatchNotFound: "batch-not-found",
  EventNotFound: "event-not-found",
  EventReplayed: "event-replayed",
  FailedEventNotFound: "event-not-found",
  FailureClosed: "failure-closed",
  FailureNotFound: "failure-not-found",
  FailureNotReopened: "failure-not-reopened",
  LoggedEventNotFound: "event-not-found",
  NotPaused: "not-paused",
  TooCostly: "too-costly"
} as const

/** Why is for the log alone: it names hosts. */
const unavailable = Problem.fail(
  "postgres-unavailable",
  "The outbox's Postgres does not answer; the server's log says why. Trying again is safe: nothing is published twice"
)

const notPermitted = Problem.fail(
  "not-permitted",
  "Nothing was done: the role that this server has in Postgres may not do it. GRANT outbox_operator to that role, or use one that has it"
)

export const toIssues = (issues: ReadonlyArray<ParseResult.ArrayFormatterIssue>): ReadonlyArray<Problem.Issue> =>
  issues.map(({ message, path }) => new Problem.Issue({ field: path.map(String).join("."), reason: message }))

/** Whatever a request fails with, said as a problem. */
export const withProblems = <R>(app: HttpApp.Default<Problem.Problem, R>): HttpApp.Default<never, R> =>
  app.pipe(
    Effect.catchTag("Problem", (problem) => Effect.succeed(toResponse(problem))),
    Effect.catchAllCause((cause) => {
      if (Cause.isInterruptedOnly(cause)) return Effect.failCause(cause)
      // The types know of no other error, but HttpApi's own arrive this way.
      const error: unknown = Cause.squash(cause)
      if (error instanceof HttpApiDecodeError) return Effect.succeed(toResponse(invalidParameters(error)))
      if (error instanceof RouteNotFound) return Effect.succeed(toResponse(noSuchEndpoint(error)))
      return Effect.as(Effect.logError("A bug in the operator API", cause), toResponse(bug))
    })
  )

const invalidParameters = ({ issues }: HttpApiDecodeError) =>
  Problem.make(
    "bad-request",
    "Nothing was done. Correct the parameters as `issues` says and try again",
    toIssues(issues)
  )

const noSuchEndpoint = ({ request }: RouteNotFound) =>
  Problem.make(
    "no-such-endpoint",
    `There is no ${request.method} ${request.url.replace(/\?.*/s, "")}. See /docs for what there is`
  )

const bug = Problem.make("bug", "This is a bug; the server's log shows it. Please report it")

const HEADERS: Readonly<Record<number, Readonly<Record<string, string>>>> = {
  401: { "www-authenticate": "Bearer" },
  503: { "retry-after": "5" }
}

const toResponse = (problem: Problem.Problem): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.text(JSON.stringify(Problem.encode(problem)), {
    status: problem.status,
    contentType: "application/problem+json",
    ...(HEADERS[problem.status] !== undefined && { headers: HEADERS[problem.status] })
  })
