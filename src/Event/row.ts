/** An event as the outbox stores it, and the checks that every event has to pass on its way there. */
import * as DateTime from "effect/DateTime"
import * as Either from "effect/Either"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import { v7 as uuidV7 } from "uuid"
import { type Event, EventId, EventIssue, MAX_CONTEXT_BYTES } from "../Event.ts"
import { jsonProblem } from "./json.ts"

const MAX_NAME_CHARACTERS = 255
const MAX_VERSION = 2n ** 63n - 1n
const FIRST_MILLIS = Date.UTC(1900, 0, 1)
const LAST_MILLIS = Date.UTC(2300, 0, 1) - 1

/** Every column decided, every check passed. */
export interface EventRow {
  readonly eventId: EventId
  readonly eventType: string
  /** RFC 3339 with up to six fractional digits. */
  readonly eventDateTime: string
  readonly environment: string
  /** JSON text of an object. */
  readonly eventContext: string
  readonly metadataVersion: string
}

/** Decides the columns that the caller left open and checks them all. */
export const toRow = (
  event: Event,
  index: number,
  defaults: { readonly nowMillis: number; readonly environment: string }
): Either.Either<EventRow, ReadonlyArray<EventIssue>> => {
  const issues: Array<EventIssue> = []
  const report = (field: string, reason: string) => {
    issues.push(new EventIssue({ index, eventType: String(event.eventType), field, reason }))
  }

  const name = (field: string, value: string): string => {
    const problem = nameProblem(value)
    if (problem !== undefined) report(field, problem)
    return value
  }
  const eventType = name("event_type", event.eventType)
  const environment = name("environment", event.environment ?? defaults.environment)

  const millis = event.eventDateTime === undefined ? defaults.nowMillis : toMillis(event.eventDateTime)
  const inRange = millis >= FIRST_MILLIS && millis <= LAST_MILLIS
  if (!inRange)
    report("event_date_time", "must be a time from 1900-01-01 to 2299-12-31, which is what ClickHouse holds")

  // As both databases print it.
  const eventId = Schema.decodeUnknownEither(EventId)(event.eventId?.toLowerCase() ?? uuidV7())
  if (Either.isLeft(eventId)) report("event_id", `must be a uuid, not ${JSON.stringify(event.eventId)}`)

  const version = toVersion(event.metadataVersion)
  if (version === undefined) report("metadata_version", "must be a whole number from 0 to 9223372036854775807")

  const eventContext = toJson(event.encode(), (path, reason) => report(["event_context", ...path].join("."), reason))

  return issues.length === 0 && Either.isRight(eventId) && version !== undefined && eventContext !== undefined
    ? Either.right({
        eventId: eventId.right,
        eventType,
        eventDateTime: new Date(millis).toISOString(),
        environment,
        eventContext,
        metadataVersion: version.toString()
      })
    : Either.left(issues)
}

const toMillis = (time: DateTime.Utc | Date): number =>
  time instanceof Date ? time.getTime() : DateTime.toEpochMillis(time)

const toVersion = (version: number | bigint): bigint | undefined => {
  if (typeof version === "number" && !Number.isSafeInteger(version)) return undefined
  const exact = BigInt(version)
  return exact >= 0n && exact <= MAX_VERSION ? exact : undefined
}

const nameProblem = (value: unknown): string | undefined => {
  if (typeof value !== "string") return `must be a string, not ${value === null ? "null" : typeof value}`
  const characters = value.length <= MAX_NAME_CHARACTERS ? value.length : [...value].length
  if (characters === 0 || characters > MAX_NAME_CHARACTERS) {
    return `must have 1 to ${MAX_NAME_CHARACTERS} characters, not ${characters}`
  }
  return jsonProblem(value)?.reason
}

const toJson = (
  encoded: Either.Either<unknown, ParseResult.ParseError>,
  report: (path: ReadonlyArray<PropertyKey>, reason: string) => void
): string | undefined => {
  if (Either.isLeft(encoded)) {
    for (const issue of ParseResult.ArrayFormatter.formatErrorSync(encoded.left)) report(issue.path, issue.message)
    return undefined
  }
  const problem = jsonProblem(encoded.right)
  if (problem !== undefined) {
    report(problem.path, problem.reason)
    return undefined
  }
  const json = JSON.stringify(encoded.right)
  if (!json.startsWith("{")) {
    report([], "must be a JSON object")
    return undefined
  }
  const bytes = Buffer.byteLength(json)
  if (bytes > MAX_CONTEXT_BYTES) {
    report([], `must not exceed ${MAX_CONTEXT_BYTES} bytes of JSON, has ${bytes}`)
    return undefined
  }
  return json
}

/** Names and reasons of the domains' checks, for what only Postgres could find. */
export const constraintIssues: Readonly<Record<string, { readonly field: string; readonly reason: string }>> = {
  event_type_must_have_1_to_255_characters: { field: "event_type", reason: "must have 1 to 255 characters" },
  environment_must_have_1_to_255_characters: { field: "environment", reason: "must have 1 to 255 characters" },
  event_context_must_be_a_json_object: { field: "event_context", reason: "must be a JSON object" },
  event_context_must_not_exceed_1_mib: {
    field: "event_context",
    reason: `must not exceed ${MAX_CONTEXT_BYTES} bytes as Postgres writes JSON`
  },
  event_context_must_not_exceed_1000_levels: {
    field: "event_context",
    reason: "must not be nested deeper than 1000 levels"
  },
  metadata_version_must_not_be_negative: { field: "metadata_version", reason: "must not be negative" },
  event_date_time_must_be_from_1900_to_2299: { field: "event_date_time", reason: "must be from 1900 to 2299" },
  traceparent_must_be_w3c_trace_context: { field: "traceparent", reason: "must be a W3C traceparent" }
}
