/**
 * A file of events as rows for COPY: NDJSON, whose lines `schema/eventLine.ts` reads. A line that is wrong is named by
 * its number. Memory holds one line at a time, however many there are.
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { MAX_CONTEXT_BYTES } from "../Event.ts"
import { invalidData } from "../internal/sqlState.ts"
import { COLUMNS, decodeLine, type LineOptions, type Problem, toCopy } from "../schema/eventLine.ts"
import { constraintIssues } from "../schema/eventRow.ts"

/** How many lines that are wrong are looked for. */
const MAX_BAD_LINES = 20
const MAX_PROBLEMS_PER_LINE = 5
const MAX_CHARACTERS_PER_PROBLEM = 300

/** One thing that is wrong with one line. */
class LineIssue extends Schema.Class<LineIssue>("LineIssue")({
  /** From 1. */
  line: Schema.Int,
  field: Schema.optionalWith(Schema.String, { exact: true }),
  reason: Schema.String
}) {
  override toString(): string {
    const text = `line ${this.line}${this.field === undefined ? "" : `, ${this.field}`}: ${this.reason}`
    // Parts of it come from the file, and must not command the terminal.
    return text.replaceAll(/\p{Cc}/gu, "\uFFFD").slice(0, MAX_CHARACTERS_PER_PROBLEM)
  }
}

/** Lines that cannot be published. None of their file was. */
export class LinesInvalid extends Schema.TaggedError<LinesInvalid>()("LinesInvalid", {
  issues: Schema.NonEmptyArray(LineIssue),
  /** Whether the lines after the last of these were looked at too. */
  complete: Schema.Boolean
}) {
  override get message(): string {
    const issues = this.issues.map((issue) => `\n  ${issue}`).join("")
    return `Nothing was published. Correct and publish again:${issues}${this.complete ? "" : "\n  and perhaps more: the lines after that were not checked"}`
  }
}

/** Takes the rows of {@link toCopyRows}. */
export const COPY_STATEMENT = `COPY outbox.new_event (${COLUMNS}) FROM STDIN`

/** Rows of COPY, one a line. */
export interface CopyRows {
  readonly bytes: Uint8Array
  readonly count: number
}

/**
 * Reads lines into rows for {@link COPY_STATEMENT}. Fails with the lines that are wrong: no row is made of what follows
 * the first of them, but it is read until the input ends or 20 are known.
 *
 * @param options.environment what events carry whose line names none
 */
export const toCopyRows = <E, R>(
  input: Stream.Stream<Uint8Array, E, R>,
  options: { readonly environment: string }
): Stream.Stream<CopyRows, E | LinesInvalid, R> =>
  input.pipe(
    Stream.map(Option.some),
    Stream.concat(Stream.succeed(Option.none())),
    Stream.mapAccumEffect(NOTHING_READ, (state, chunk) =>
      Effect.flatMap(Clock.currentTimeMillis, (nowMillis) => read(state, chunk, { ...options, nowMillis }))
    ),
    Stream.filter(({ count }) => count > 0)
  )

interface State {
  readonly begun: BegunLine
  readonly issues: ReadonlyArray<LineIssue>
  readonly badLines: number
}

/** @param chunk none at the end of the input */
const read = (
  state: State,
  chunk: Option.Option<Uint8Array>,
  defaults: Omit<LineOptions, "number">
): Effect.Effect<readonly [State, CopyRows], LinesInvalid> => {
  const [begun, lines] = Option.match(chunk, {
    onSome: (bytes) => takeLines(state.begun, bytes),
    onNone: () => [FIRST_LINE, lastLine(state.begun)] as const
  })
  const rows: Array<string> = []
  const issues = [...state.issues]
  let badLines = state.badLines
  for (const line of lines) {
    const row = Either.flatMap(decodeText(line), (text) => decodeLine(text, { ...defaults, number: line.number }))
    if (Either.isRight(row)) {
      if (badLines === 0) rows.push(toCopy(row.right))
      continue
    }
    issues.push(...toIssues(line.number, row.left))
    if (++badLines === MAX_BAD_LINES) break
  }
  if (Arr.isNonEmptyArray(issues) && (Option.isNone(chunk) || badLines === MAX_BAD_LINES)) {
    return new LinesInvalid({ issues, complete: badLines < MAX_BAD_LINES })
  }
  return Effect.succeed([
    { begun, issues, badLines },
    { bytes: Buffer.from(rows.join("")), count: rows.length }
  ])
}

const toIssues = (line: number, problems: ReadonlyArray<Problem>): ReadonlyArray<LineIssue> =>
  problems.slice(0, MAX_PROBLEMS_PER_LINE).map((problem) => new LineIssue({ line, ...problem }))

/** Room for the largest context with each of its characters written as `\u0000`, and the other fields. */
const MAX_LINE_BYTES = 8 * MAX_CONTEXT_BYTES

interface Line {
  /** From 1. */
  readonly number: number
  /** None if there were too many. */
  readonly bytes: Option.Option<Uint8Array>
}

/** A line whose end has not been seen. */
interface BegunLine {
  readonly number: number
  readonly parts: ReadonlyArray<Uint8Array>
  readonly size: number
}

const FIRST_LINE: BegunLine = { number: 1, parts: [], size: 0 }

const NOTHING_READ: State = { begun: FIRST_LINE, issues: [], badLines: 0 }

const NEWLINE = 10

/** The lines that end in `chunk`, and the one that goes on behind it. */
const takeLines = (begun: BegunLine, chunk: Uint8Array): readonly [BegunLine, ReadonlyArray<Line>] => {
  const lines: Array<Line> = []
  let from = 0
  for (let at = chunk.indexOf(NEWLINE); at !== -1; at = chunk.indexOf(NEWLINE, from)) {
    const line = append(begun, chunk.subarray(from, at))
    lines.push(toLine(line))
    begun = { ...FIRST_LINE, number: line.number + 1 }
    from = at + 1
  }
  return [append(begun, chunk.subarray(from)), lines]
}

/** The last line, unless the input ended with a newline. */
const lastLine = (begun: BegunLine): ReadonlyArray<Line> => (begun.size === 0 ? [] : [toLine(begun)])

const append = ({ number, parts, size }: BegunLine, bytes: Uint8Array): BegunLine => {
  const grown = size + bytes.length
  return { number, size: grown, parts: grown > MAX_LINE_BYTES ? [] : [...parts, bytes] }
}

const toLine = ({ number, parts, size }: BegunLine): Line => ({
  number,
  bytes: size > MAX_LINE_BYTES ? Option.none() : Option.some(Buffer.concat(parts))
})

/** Strips a byte order mark, which some programs begin a file with. */
const utf8 = new TextDecoder("utf-8", { fatal: true })

const decodeText = ({ bytes }: Line): Either.Either<string, ReadonlyArray<Problem>> =>
  Option.match(bytes, {
    onNone: () => Either.left([{ reason: `is longer than ${MAX_LINE_BYTES} bytes` }]),
    onSome: (bytes) => Either.try({ try: () => utf8.decode(bytes), catch: () => [{ reason: "is not valid UTF-8" }] })
  })

/** Of `outbox.new_event`: whatever the line, none is written. */
const TRIGGERS_OFF = "session_replication_role_must_not_be_replica"

/** Whether the session has turned off the trigger that publishes. */
export const isTriggersOff = (error: SqlError): boolean =>
  Option.exists(invalidData(error), ({ constraint }) => constraint === TRIGGERS_OFF)

/**
 * The line that Postgres does not take and why, if that is what went wrong. Each line is a row, so COPY's count is ours.
 */
export const invalidAccordingTo = (error: SqlError): Option.Option<LinesInvalid> =>
  Option.flatMap(invalidData(error), ({ constraint = "", message, where = "" }) => {
    if (constraint === TRIGGERS_OFF) return Option.none()
    // "COPY new_event, line 3, column event_context", in the server's language.
    const [, line, field] = /^COPY \w+, \S+ (\d+)(?:, \S+ (\w+))?/m.exec(where) ?? []
    if (line === undefined) return Option.none()
    const problem = constraintIssues[constraint] ?? { reason: message, ...(field !== undefined && { field }) }
    return Option.some(
      new LinesInvalid({ issues: [new LineIssue({ line: Number(line), ...problem })], complete: false })
    )
  })
