/**
 * An event as a line of JSON, whose fields are the columns of `outbox.event`:
 *
 *     {"event_type": "user_created", "event_context": {"user_id": 1}, "event_date_time": "2026-01-31T12:00:00.123456Z"}
 *
 * A line is checked like an event that a program publishes. What it says is passed on as it is written, so that numbers
 * keep all of their digits.
 */
import * as Either from "effect/Either"
import * as ParseResult from "effect/ParseResult"
import * as Predicate from "effect/Predicate"
import * as Record from "effect/Record"
import * as Schema from "effect/Schema"
import type { Event } from "../Event.ts"
import { escapeField } from "../internal/escape.ts"
import { rawMembers } from "../internal/jsonText.ts"
import { isTime, toIso } from "../internal/rfc3339.ts"
import { type EventRow, toRow } from "./eventRow.ts"

/** Which line it is, from 1, and what its event carries that the line leaves open. */
export interface LineOptions {
  readonly number: number
  readonly nowMillis: number
  readonly environment: string
}

/** A row that may carry the trace it was published in. */
export interface LineRow extends EventRow {
  readonly traceparent: string | undefined
}

export interface Problem {
  /** Without one it is the whole line. */
  readonly field?: string
  readonly reason: string
}

const must = <A, I>(schema: Schema.Schema<A, I>, reason: string): Schema.Schema<A, I> =>
  schema.annotations({ message: () => ({ message: reason, override: true }) })

const mayBe = <A, I>(schema: Schema.Schema<A, I>, reason: string) =>
  Schema.optionalWith(must(schema, reason), { exact: true })

/** Of a second, as Postgres has it. */
const MICROSECONDS = 6

const TRACEPARENT = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/

const EventLine = Schema.Struct({
  event_type: must(Schema.String, "must be a string"),
  event_context: must(Schema.Unknown.pipe(Schema.filter(Predicate.isReadonlyRecord)), "must be a JSON object"),
  event_date_time: mayBe(
    Schema.String.pipe(Schema.filter((text) => isTime(text, MICROSECONDS))),
    "must be an RFC 3339 time to the microsecond at most, such as 2026-01-31T12:00:00.123456Z"
  ),
  environment: mayBe(Schema.String, "must be a string"),
  metadata_version: mayBe(Schema.Number, "must be a number"),
  event_id: mayBe(Schema.String, "must be a string"),
  traceparent: mayBe(Schema.String.pipe(Schema.pattern(TRACEPARENT)), "must be a W3C traceparent")
})

const decodeFields = Schema.decodeUnknownEither(EventLine, { errors: "all", onExcessProperty: "error" })

/** The event of a line, every number as it is written, or every problem of the line. */
export const decodeLine = (text: string, options: LineOptions): Either.Either<LineRow, ReadonlyArray<Problem>> =>
  Either.gen(function* () {
    const fields = yield* decodeFields(yield* parseObject(text)).pipe(Either.mapLeft(toProblems))
    const { event_context, event_date_time, metadata_version, traceparent } = fields
    const raw = rawMembers(text)
    const event: Event = {
      eventType: fields.event_type,
      metadataVersion: toExact(metadata_version ?? 1, raw.get("metadata_version")),
      encode: () => Either.right(event_context),
      ...(fields.event_id !== undefined && { eventId: fields.event_id }),
      ...(fields.environment !== undefined && { environment: fields.environment }),
      ...(event_date_time !== undefined && { eventDateTime: new Date(toIso(event_date_time)) })
    }
    const row = yield* toRow(event, options.number, options)
    return {
      ...row,
      // As they are written: neither a time's microseconds nor a number's digits fit into JavaScript's.
      eventDateTime: event_date_time === undefined ? row.eventDateTime : toIso(event_date_time),
      eventContext: raw.get("event_context") ?? row.eventContext,
      traceparent
    }
  })

const parseObject = (text: string): Either.Either<object, ReadonlyArray<Problem>> =>
  Either.try({ try: (): unknown => JSON.parse(text), catch: (error) => [{ reason: notJson(text, error) }] }).pipe(
    Either.filterOrLeft(Predicate.isReadonlyRecord, () => [{ reason: "must be a JSON object" }]),
    // Null counts as left out, as it does for outbox.publish.
    Either.map(Record.filter(Predicate.isNotNull))
  )

const notJson = (text: string, error: unknown): string =>
  text.trim() === "" ? "is empty" : `is not JSON: ${error instanceof Error ? error.message : error}`

/** The fields that a line may have, the required ones first. */
export const FIELDS: ReadonlyArray<string> = Object.keys(EventLine.fields)

const UNKNOWN = `is unknown; the fields are ${FIELDS.join(", ")}`

const toProblems = (error: ParseResult.ParseError): ReadonlyArray<Problem> =>
  ParseResult.ArrayFormatter.formatErrorSync(error).map(({ _tag, message, path }) => ({
    field: path.join("."),
    reason: _tag === "Unexpected" ? UNKNOWN : message
  }))

/** Whole numbers up to 64 bits, which JavaScript's numbers do not hold exactly, are read from their digits. */
const toExact = (number: number, raw: string | undefined): number | bigint =>
  raw !== undefined && /^-?\d{1,20}$/.test(raw) ? BigInt(raw) : number

/** In the order of {@link toCopy}. */
export const COLUMNS =
  "event_id, event_type, event_date_time, environment, event_context, metadata_version, traceparent"

/** A row in the text format of COPY: https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.2 */
export const toCopy = (row: LineRow): string =>
  [
    row.eventId,
    escapeField(row.eventType),
    row.eventDateTime,
    escapeField(row.environment),
    escapeField(row.eventContext),
    row.metadataVersion,
    `${row.traceparent ?? "\\N"}\n`
  ].join("\t")
