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
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { constraintIssues } from "./Event.ts"
import * as Lines from "./EventLines/lines.ts"
import { COLUMNS, type Defaults, toCopyRow } from "./EventLines/row.ts"

export { MAX_LINE_BYTES } from "./EventLines/lines.ts"

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
  /** Whether the lines behind the last of these were looked at too. */
  complete: Schema.Boolean
}) {
  override get message(): string {
    const issues = this.issues.map((issue) => `\n  ${issue}`).join("")
    return `Nothing was published. Correct and publish again:${issues}${this.complete ? "" : "\n  and perhaps more: the lines behind were not checked"}`
  }
}

/**
 * Takes the rows of {@link toCopy}.
 *
 * @since 0.1.0
 * @category COPY
 */
export const COPY_STATEMENT = `COPY outbox.event (${COLUMNS}) FROM STDIN`

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
 * Reads lines into rows for {@link COPY_STATEMENT}. After the first line that is wrong no further row is made, but lines
 * are read until 20 that are wrong are known.
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
      Stream.mapAccumEffect({ begun: Lines.start, issues: Arr.empty<LineIssue>(), badLines: 0 }, (state, chunk) =>
        Effect.gen(function* () {
          const nowMillis = yield* Clock.currentTimeMillis
          const [begun, lines] = Option.match(chunk, {
            onSome: (bytes) => Lines.cut(state.begun, bytes),
            onNone: () => [Lines.start, Lines.end(state.begun)] as const
          })
          const found = read(lines, { ...options, nowMillis })
          const issues = [...state.issues, ...found.issues]
          const badLines = state.badLines + found.badLines
          ...
        })
      )
    )
