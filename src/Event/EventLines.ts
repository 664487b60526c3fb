/**
 * Events as lines of JSON, for files and pipes: NDJSON whose fields are the columns of `outbox.event`.
 *
 *     {"event_type": "user_created", "event_context": {"user_id": 1}, "event_date_time": "2026-01-31T12:00:00.123456Z"}
 *
 * A line is checked like an event that a program publishes, and one that is wrong is named by its number. A context is
 * passed on as it is written, so that its numbers keep all of their digits. Memory holds one line, however many there
 * are.
 *
 * @since 0.1.0
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { invalidData } from "../Postgres.ts"
import { COLUMNS, type Defaults, type Problem, toCopyRow } from "./lineRow.ts"
import * as Lines from "./lines.ts"
import { constraintIssues } from "./row.ts"

export { FIELDS } from "./lineRow.ts"
export { MAX_LINE_BYTES } from "./lines.ts"

/** How many lines that are wrong are looked for. */
const MAX_BAD_LINES = 20
const MAX_PROBLEMS_PER_LINE = 5
const MAX_CHARACTERS_PER_PROBLEM = 300

/**
 * One thing that is wrong with one line.
 *
 * @since 0.1.0
 * @category errors
 */
export class LineIssue extends Schema.Class<LineIssue>("LineIssue")({
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

/**
 * Lines that cannot be published. None of their file was.
 *
 * @since 0.1.0
 * @category errors
 */
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

/**
 * Takes the rows of {@link toCopy}.
 *
 * @since 0.1.0
 * @category COPY
 */
export const COPY_STATEMENT = `COPY outbox.new_event (${COLUMNS}) FROM STDIN`

/**
 * Rows of `COPY`, one a line.
 *
 * @since 0.1.0
 * @category COPY
 */
export interface CopyRows {
  readonly bytes: Uint8Array
  readonly count: number
}

/**
 * Reads lines into rows for {@link COPY_STATEMENT}. Fails with the lines that are wrong: no row is made of what follows
 * the first of them, but it is read until the input ends or 20 are known.
 *
 * @param options.environment what events carry whose line names none
 * @since 0.1.0
 * @category COPY
 */
export const toCopy =
  (options: { readonly environment: string }) =>
  <E, R>(input: Stream.Stream<Uint8Array, E, R>): Stream.Stream<CopyRows, E | LinesInvalid, R> =>
    input.pipe(
      Stream.map(Option.some),
      Stream.concat(Stream.succeed(Option.none())),
      Stream.mapAccumEffect(start, (state, chunk) =>
        Effect.flatMap(Clock.currentTimeMillis, (nowMillis) => read(state, chunk, { ...options, nowMillis }))
      ),
      Stream.filter(({ count }) => count > 0)
    )

interface State {
  readonly begun: Lines.Begun
  readonly issues: ReadonlyArray<LineIssue>
  readonly badLines: number
}

const start: State = { begun: Lines.start, issues: [], badLines: 0 }

/** @param chunk none at the end of the input */
const read = (
  state: State,
  chunk: Option.Option<Uint8Array>,
  defaults: Defaults
): Effect.Effect<readonly [State, CopyRows], LinesInvalid> => {
  const [begun, lines] = Option.match(chunk, {
    onSome: (bytes) => Lines.cut(state.begun, bytes),
    onNone: () => [Lines.start, Lines.end(state.begun)] as const
  })
  const rows: Array<string> = []
  const issues = [...state.issues]
  let badLines = state.badLines
  for (const line of lines) {
    const row = toCopyRow(line, defaults)
    if (Either.isRight(row)) {
      if (badLines === 0) rows.push(row.right)
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

/**
 * The line that Postgres refused and why, if that is what went wrong. Each line is a row, so that COPY's count is ours.
 *
 * @since 0.1.0
 * @category errors
 */
export const refusedByPostgres = (error: SqlError): Option.Option<LinesInvalid> =>
  Option.flatMap(invalidData(error), ({ constraint = "", message, where = "" }) => {
    // "COPY new_event, line 3, column event_context", in the server's language.
    const [, line, field] = /^COPY \w+, \S+ (\d+)(?:, \S+ (\w+))?/m.exec(where) ?? []
    if (line === undefined) return Option.none()
    const problem = constraintIssues[constraint] ?? { reason: message, ...(field !== undefined && { field }) }
    return Option.some(
      new LinesInvalid({ issues: [new LineIssue({ line: Number(line), ...problem })], complete: false })
    )
  })
