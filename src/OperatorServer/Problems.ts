/** Every problem that the server answers: what happened, and what to do. */
import { HttpApiDecodeError } from "@effect/platform/HttpApiError"
import type * as HttpApp from "@effect/platform/HttpApp"
import { RouteNotFound } from "@effect/platform/HttpServerError"
import type * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import type { SqlError } from "@effect/sql/SqlError"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import { isNotPermitted, isUnavailable } from "../internal/sqlState.ts"
import type { SinkError } from "../SinkError.ts"
import type { BatchNotFound, EventNotFound } from "../schema/deliveries.ts"
import type { LoggedEventNotFound, TooCostly } from "../schema/eventLog.ts"
import type {
  CorrectionInvalid,
  EventReplayed,
  FailedEventNotFound,
  FailureClosed,
  FailureNotFound,
  FailureNotReopened
} from "../schema/failures.ts"
import type { AlreadyPaused, NotPaused } from "../schema/systems.ts"
import * as Kinds from "./Problem.ts"
import { Issue, Problem } from "./Problem.ts"

// Who asks

export const unauthorized = Kinds.make(
  "unauthorized",
  "Send the header Authorization: Bearer …, with what OUTBOX_HTTP_TOKEN is on the server"
)

export const notThisHost = Kinds.make(
  "forbidden",
  "This server has no token, so it answers only requests to localhost or a loopback address. Set OUTBOX_HTTP_TOKEN to use it under another name"
)

export const otherOrigin = Kinds.make(
  "forbidden",
  "This server has no token, so it answers no page of another origin. Set OUTBOX_HTTP_TOKEN and send it with the request"
)

// What is asked

export const noSuchEndpoint = ({ method, url }: HttpServerRequest.HttpServerRequest): Problem =>
  Kinds.make("no-such-endpoint", `There is no ${method} ${url.replace(/\?.*/s, "")}. See /docs for what there is`)

/** Of very many one is told the first: an answer does not grow with what was sent. */
const MAX_ISSUES = 100

const invalid = (issues: HttpApiDecodeError["issues"]) =>
  Kinds.make(
    "bad-request",
    "Nothing was done. Correct the request as `issues` says and try again",
    issues
      .slice(0, MAX_ISSUES)
      .map(({ message, path }) => new Issue({ field: path.map(String).join("."), reason: message }))
  )

export const tooManyBuckets = (maximum: number): Problem =>
  Kinds.make("bad-request", "Nothing was read", [
    new Issue({ field: "step", reason: `Would be more than ${maximum} buckets; make it longer` })
  ])

export const allOrFilter = Kinds.make(
  "bad-request",
  'Give a filter, or {"all": true} to replay every open failure, not both'
)

export const notJsonType = Kinds.make(
  "no-json",
  "Send the body as JSON, with the header Content-Type: application/json"
)

export const tooLarge = (maxBytes: number): Problem =>
  Kinds.make("too-large", `This body may have ${maxBytes} bytes at most`)

export const tooHeavy = (maxBytes: number): Problem =>
  Kinds.make("too-large", `This body may have ${maxBytes} bytes at most, not counting spaces and escapes`)

export const tooManyMembers = (maximum: number): Problem =>
  Kinds.make("too-large", `This body may have ${maximum} members and elements at most`)

export const tooDeep = (maxLevels: number): Problem =>
  Kinds.make("bad-request", `This body may have ${maxLevels} levels of objects and arrays at most`)

export const brokenOff = Kinds.make("bad-request", "The body broke off")

export const notUtf8 = Kinds.make("bad-request", "The body is not UTF-8")

export const notJson = (error: unknown): Problem =>
  Kinds.make("bad-request", `The body is not JSON: ${error instanceof Error ? error.message : String(error)}`)

// What becomes of it

export const starting = Kinds.make(
  "postgres-unavailable",
  "The relay still waits for its outbox, and its log says why. Trying again is safe"
)

export const overloaded = Kinds.make(
  "overloaded",
  "Nothing was done: too many requests wait already, or this one has waited for too long. Trying again in a few seconds is safe"
)

/** The reason is for the log alone: it names hosts. */
const postgresUnavailable = Kinds.make(
  "postgres-unavailable",
  "The outbox's Postgres does not answer; the server's log says why. Trying again is safe: nothing is published twice"
)

const notPermitted = Kinds.make(
  "not-permitted",
  "Nothing was done: the role that this server has in Postgres may not do it. GRANT outbox_operator to that role, or use one that has it"
)

const bug = Kinds.make("bug", "This is a bug; the server's log shows it. Please report it")

/** The errors of the services that are neither database's. */
type ServiceError =
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

/** Those whose message is all there is to say. */
const SERVICE_ERRORS = {
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

export type Answerable = ServiceError | SinkError | SqlError | Problem

/** Fails with the problem that an error is; dies of an SqlError that is a bug. */
export const fail = (error: Answerable): Effect.Effect<never, Problem> => {
  switch (error._tag) {
    case "Problem":
      return Effect.fail(error)
    case "SqlError":
      if (isNotPermitted(error)) return Effect.fail(notPermitted)
      return isUnavailable(error)
        ? Effect.zipRight(
            Effect.logWarning("The operator API cannot use the outbox", error),
            Effect.fail(postgresUnavailable)
          )
        : Effect.die(error)
    case "SinkError":
      return Effect.fail(Kinds.make("clickhouse-unavailable", `ClickHouse does not answer this: ${error.reason}`))
    case "CorrectionInvalid":
      return Effect.fail(
        Kinds.make(
          "correction-invalid",
          "Nothing was changed. Correct what `issues` says and try again",
          error.issues.slice(0, MAX_ISSUES).map(({ field, reason }) => new Issue({ field, reason }))
        )
      )
    default:
      return Effect.fail(Kinds.make(SERVICE_ERRORS[error._tag], error.message))
  }
}

/** Answers whatever a request fails with as a problem. */
export const answer = <R>(app: HttpApp.Default<Problem, R>): HttpApp.Default<never, R> =>
  app.pipe(
    // By its tag: HttpApi's own errors fail here too, though no type has them.
    Effect.catchTag("Problem", (problem) => Effect.succeed(toResponse(problem))),
    Effect.catchAllCause((cause) => {
      if (Cause.isInterruptedOnly(cause)) return Effect.failCause(cause)
      // A body that cannot be read is a defect to HttpApi.
      const error: unknown = Cause.squash(cause)
      if (error instanceof Problem) return Effect.succeed(toResponse(error))
      if (error instanceof HttpApiDecodeError) return Effect.succeed(toResponse(invalid(error.issues)))
      if (error instanceof RouteNotFound) return Effect.succeed(toResponse(noSuchEndpoint(error.request)))
      return Effect.as(Effect.logError("A bug in the operator API", cause), toResponse(bug))
    })
  )

const HEADERS: Readonly<Record<number, Readonly<Record<string, string>>>> = {
  401: { "www-authenticate": "Bearer" },
  503: { "retry-after": "5" }
}

const toResponse = (problem: Problem): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.text(JSON.stringify(Kinds.encode(problem)), {
    status: problem.status,
    contentType: "application/problem+json",
    ...(HEADERS[problem.status] !== undefined && { headers: HEADERS[problem.status] })
  })
