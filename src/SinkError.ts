/**
 * What ClickHouse's refusals mean, decided by its error code and never by the HTTP status: bad data also comes as 500.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/**
 * What is to be done about a failed attempt.
 *
 * - `data`: ClickHouse refuses the events themselves; sending them again cannot help.
 * - `transient`: it will pass; try again, faster at first.
 * - `configuration`: somebody must put it right; try again slowly and raise an alarm.
 * - `unknown`: treated like `configuration`.
 *
 * @since 0.1.0
 * @category models
 */
export const ErrorClass = Schema.Literal("data", "transient", "configuration", "unknown")
export type ErrorClass = typeof ErrorClass.Type

/**
 * An attempt that did not end in ClickHouse's yes.
 *
 * @since 0.1.0
 * @category errors
 */
export class SinkError extends Schema.TaggedError<SinkError>()("SinkError", {
  errorClass: ErrorClass,
  /** ClickHouse's error code, where ClickHouse was reached. */
  code: Schema.optionalWith(Schema.Int, { exact: true }),
  reason: Schema.String,
  /** Whether it is certain that nothing was written. Otherwise the attempt is in doubt and is repeated identically. */
  settled: Schema.Boolean,
  /** Of bad data: the row of the insert that ClickHouse named, from 1. */
  row: Schema.optionalWith(Schema.Int, { exact: true })
}) {
  override get message(): string {
    return this.code === undefined ? this.reason : `ClickHouse refused. ${this.reason}`
  }
}

interface Meaning {
  readonly errorClass: ErrorClass
  readonly settled: boolean
}

const data: Meaning = { errorClass: "data", settled: true }
const configuration: Meaning = { errorClass: "configuration", settled: true }
/** Refused before the block was written. */
const busy: Meaning = { errorClass: "transient", settled: true }
/** Broke off somewhere in between. */
const doubtful: Meaning = { errorClass: "transient", settled: false }
const unknown: Meaning = { errorClass: "unknown", settled: false }

/**
 * What each of ClickHouse's error codes means. Names as `errorCodeToName` gives them.
 *
 * @internal
 */
export const codes: ReadonlyArray<readonly [code: number, name: string, meaning: Meaning]> = [
  [6, "CANNOT_PARSE_TEXT", data],
  [25, "CANNOT_PARSE_ESCAPE_SEQUENCE", data],
  [26, "CANNOT_PARSE_QUOTED_STRING", data],
  [27, "CANNOT_PARSE_INPUT_ASSERTION_FAILED", data],
  [38, "CANNOT_PARSE_DATE", data],
  [41, "CANNOT_PARSE_DATETIME", data],
  [53, "TYPE_MISMATCH", data],
  [69, "ARGUMENT_OUT_OF_BOUND", data],
  [72, "CANNOT_PARSE_NUMBER", data],
  [117, "INCORRECT_DATA", data],
  [131, "TOO_LARGE_STRING_SIZE", data],
  [321, "VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE", data],
  [349, "CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN", data],
  [376, "CANNOT_PARSE_UUID", data],
  [469, "VIOLATED_CONSTRAINT", data],
  [675, "CANNOT_PARSE_IPV4", data],
  [691, "UNKNOWN_ELEMENT_OF_ENUM", data],

  [202, "TOO_MANY_SIMULTANEOUS_QUERIES", busy],
  [203, "NO_FREE_CONNECTION", busy],
  [242, "TABLE_IS_READ_ONLY", busy],
  [252, "TOO_MANY_PARTS", busy],
  [285, "TOO_FEW_LIVE_REPLICAS", busy],

  [3, "UNEXPECTED_END_OF_FILE", doubtful],
  [159, "TIMEOUT_EXCEEDED", doubtful],
  [198, "DNS_ERROR", doubtful],
  [209, "SOCKET_TIMEOUT", doubtful],
  [210, "NETWORK_ERROR", doubtful],
  [236, "ABORTED", doubtful],
  // Also between the parts of two months, of which the first is then in the table.
  [241, "MEMORY_LIMIT_EXCEEDED", doubtful],
  [243, "NOT_ENOUGH_SPACE", doubtful],
  [279, "ALL_CONNECTION_TRIES_FAILED", doubtful],
  [286, "UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE", doubtful],
  [319, "UNKNOWN_STATUS_OF_INSERT", doubtful],
  [394, "QUERY_WAS_CANCELLED", doubtful],
  [425, "SYSTEM_ERROR", doubtful],
  [999, "KEEPER_EXCEPTION", doubtful],
  [1000, "POCO_EXCEPTION", doubtful],

  [16, "NO_SUCH_COLUMN_IN_TABLE", configuration],
  [48, "NOT_IMPLEMENTED", configuration],
  [60, "UNKNOWN_TABLE", configuration],
  [62, "SYNTAX_ERROR", configuration],
  [73, "UNKNOWN_FORMAT", configuration],
  [81, "UNKNOWN_DATABASE", configuration],
  [115, "UNKNOWN_SETTING", configuration],
  [164, "READONLY", configuration],
  [192, "UNKNOWN_USER", configuration],
  [193, "WRONG_PASSWORD", configuration],
  [194, "REQUIRED_PASSWORD", configuration],
  [452, "SETTING_CONSTRAINT_VIOLATION", configuration],
  [497, "ACCESS_DENIED", configuration],
  [516, "AUTHENTICATION_FAILED", configuration],
  [774, "TABLE_IS_PERMANENTLY_READ_ONLY", configuration]
]

const meanings = new Map(codes.map(([code, , meaning]) => [code, meaning]))

/**
 * The part is in the table, a view behind it is not: only the same token again can complete it. At the end, because
 * before that the text may quote an event that says so.
 */
const PUSHING_TO_VIEW = /: while pushing to view [^"{}\n]+\(version [^\n]+\)\s*$/i

/** Whoever answers without a code is not ClickHouse: a proxy whose upstream is away, or an address that is wrong. */
const fromProxy = (status: number): Meaning => {
  if (status === 429) return busy
  return status >= 500 || status === 408 || status === 499 ? doubtful : configuration
}

/**
 * What an answer other than yes means.
 *
 * @param text as ClickHouse sent it: `Code: 117. DB::Exception: …` or `Poco::Exception. Code: 1000, e.code() = 0, …`
 * @since 0.1.0
 * @category constructors
 */
export const fromAnswer = (status: number, text: string): SinkError => {
  const found = /Code: (\d+)[.,] /.exec(text)?.[1]
  const reason = text.replace(ROW_DUMP, "").trim().slice(0, MAX_REASON_CHARACTERS)
  if (found === undefined) return new SinkError({ reason: `HTTP status ${status}: ${reason}`, ...fromProxy(status) })
  const code = Number(found)
  const meaning = PUSHING_TO_VIEW.test(text) ? unknown : (meanings.get(code) ?? unknown)
  return new SinkError({ code, reason, ...meaning, ...(meaning === data && refusedRow(code, text)) })
}

/**
 * The row that ClickHouse names. It names one while it parses and when it checks constraints, both before anything is
 * written, and counts it from the start of the request, however that is cut into chunks: exact wherever it was among
 * 50,000 rows of 0.2 and 2 kB. Of several it is the first, unless chunks are parsed at the same time.
 *
 * What names no row may also come from an index, a projection or the sorting key, for which a part is written, when the
 * part of another month is in the table already: seen with 26.7.
 */
const refusedRow = (code: number, text: string): Pick<SinkError, "row" | "settled"> => {
  const row = (code === 469 ? VIOLATED : NOT_PARSED).exec(text)?.[1]
  return row === undefined ? { settled: false } : { settled: true, row: Number(row) }
}

/** ``Constraint `name` for table … is violated at row 3. Expression: (…). Column values: …`` */
const VIOLATED = / is violated at row (\d+)\. Expression: /
/** `Cannot parse JSON object here: {…}: (at row 3)`, at the end of a line: an event's own JSON contains none. */
const NOT_PARSED = /: \(at row (\d+)\)\n/

const MAX_REASON_CHARACTERS = 4_000

/** ClickHouse goes on with every column of the row and of its neighbours, which have no place in a log. */
const ROW_DUMP = /\s*:\s*\nRow \d+:\n[\s\S]*$/

/** Failed before a byte was sent, if it was while connecting. */
const NEVER_CONNECTED = new Set(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH"])

/**
 * What a failed connection means: in doubt, unless there never was one.
 *
 * @since 0.1.0
 * @category constructors
 */
export const fromConnection = (cause: unknown): SinkError => {
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : ""
  return new SinkError({
    errorClass: "transient",
    reason: `ClickHouse was not reached: ${cause instanceof Error ? cause.message || code : cause}`,
    settled: NEVER_CONNECTED.has(code) && isConnecting(cause)
  })
}

/** A connection that stands can become unreachable too. One of several addresses says so for all of them. */
const isConnecting = (cause: unknown): boolean => {
  if (cause instanceof AggregateError) return cause.errors.every(isConnecting)
  return cause instanceof Error && "syscall" in cause && /^(connect|getaddrinfo)$/.test(String(cause.syscall))
}
