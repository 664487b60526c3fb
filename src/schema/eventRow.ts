/** An event as a row of `outbox.event`, and the checks that it has to pass to become one. */
import * as DateTime from "effect/DateTime"
import * as Either from "effect/Either"
import * as ParseResult from "effect/ParseResult"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import { v7 as uuidV7 } from "uuid"
import { type Event, EventId, EventIssue, MAX_CONTEXT_BYTES } from "../Event.ts"

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

interface JsonProblem {
  readonly path: ReadonlyArray<string>
  readonly reason: string
}

/**
 * JSON as both databases can hold it. `JSON.stringify` turns NaN into null and drops functions without a word, and
 * Postgres' jsonb takes no NUL and no unpaired surrogates. Each would change or lose an event, so each is a problem with a
 * place and a reason.
 */
const UNPAIRED_SURROGATE = /\p{Surrogate}/u

/** How deep a value may be inside others: ClickHouse's parser ends at 1,023, and Postgres checks the same number. */
const MAX_LEVELS = 1000

/** The first thing in `value` that JSON or a database cannot hold. Optional properties (undefined) count as absent. */
const jsonProblem = (value: unknown): JsonProblem | undefined => find(value, [])

/** `path` leads to `value`. It is one array for all, because every member of every event comes through here. */
const find = (value: unknown, path: Array<string>): JsonProblem | undefined => {
  if (path.length > MAX_LEVELS) return problem([], `is nested deeper than ${MAX_LEVELS} levels, or contains itself`)
  if (Predicate.hasProperty(value, "toJSON") && Predicate.isFunction(value.toJSON)) {
    return value instanceof Date && Number.isNaN(value.getTime())
      ? problem(path, "an invalid Date is not JSON")
      : findIn(value.toJSON(), path)
  }
  return findIn(value, path)
}

const findIn = (value: unknown, path: Array<string>): JsonProblem | undefined => {
  switch (typeof value) {
    case "string":
      return textProblem(value, path)
    case "number":
      return Number.isFinite(value) ? undefined : problem(path, `${value} is not a JSON number`)
    case "boolean":
      return undefined
    case "object":
      return value === null ? undefined : findInMembers(value, path)
    default:
      return problem(path, `${typeof value} is not JSON`)
  }
}

const findInMembers = (value: object, path: Array<string>): JsonProblem | undefined => {
  if (value instanceof Map || value instanceof Set) return problem(path, "a Map or Set is not JSON")
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) {
      path.push(String(i))
      const found = find(value[i], path)
      if (found !== undefined) return found
      path.pop()
    }
    return undefined
  }
  for (const [key, member] of Object.entries(value)) {
    if (member === undefined) continue
    path.push(key)
    const found = textProblem(key, path) ?? find(member, path)
    if (found !== undefined) return found
    path.pop()
  }
  return undefined
}

const textProblem = (text: string, path: ReadonlyArray<string>): JsonProblem | undefined => {
  if (text.includes("\0")) return problem(path, "contains the character U+0000, which Postgres cannot hold")
  if (UNPAIRED_SURROGATE.test(text)) return problem(path, "contains an unpaired surrogate, which is not Unicode")
  return undefined
}

const problem = (path: ReadonlyArray<string>, reason: string): JsonProblem => ({ path: [...path], reason })

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
