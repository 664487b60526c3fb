/**
 * What ClickHouse's refusals mean, decided by its error code and never by the HTTP status: bad data also comes as 500.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import * as Certificate from "./internal/certificate.ts"

/**
 * What is to be done about a failed attempt.
 *
 * - `data`: ClickHouse refuses the events themselves; sending them again cannot help.
 * - `transient`: it will pass, and nothing was written; try again, faster at first.
 * - `in-doubt`: it will pass, but the batch may have been written, or may still be; try again, identically.
 * - `configuration`: somebody must put it right; try again slowly and raise an alarm.
 * - `unknown`: treated like `configuration`.
 *
 * @since 0.1.0
 * @category models
 */
export const ErrorClass = Schema.Literal("data", "transient", "in-doubt", "configuration", "unknown")
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
  /** For logs and traces. The reason, unless it may quote an event: that has no place there. */
  override get message(): string {
    if (this.row !== undefined) return `ClickHouse refuses the data of row ${this.row}, code ${this.code}`
    if (this.code === undefined) return this.reason
    return mayQuoteEvents(this.errorClass)
      ? `ClickHouse refused with code ${this.code}. "clickhouse-outbox status" says why`
      : `ClickHouse refused. ${this.reason}`
  }
}

/**
 * Whether what ClickHouse says may quote what it was sent: of errors whose nature is known and is not the data, it speaks
 * of servers, tables and limits.
 */
export const mayQuoteEvents = (errorClass: string): boolean => errorClass === "data" || errorClass === "unknown"

interface Meaning {
  readonly errorClass: ErrorClass
  readonly settled: boolean
}

const data: Meaning = { errorClass: "data", settled: true }
const configuration: Meaning = { errorClass: "configuration", settled: true }
/** Refused before the block was written. */
const passing: Meaning = { errorClass: "transient", settled: true }
/** Broke off somewhere in between. */
const doubtful: Meaning = { errorClass: "in-doubt", settled: false }
const unknown: Meaning = { errorClass: "unknown", settled: false }

/**
 * What each of ClickHouse's error codes means for an insert, and why. Names as `errorCodeToName` gives them.
 * docs/failures.md has the same table.
 *
 * @internal
 */
export const codes: ReadonlyArray<readonly [code: number, name: string, meaning: Meaning, why: string]> = [
  [6, "CANNOT_PARSE_TEXT", data, "a value is not of its column's type"],
  [25, "CANNOT_PARSE_ESCAPE_SEQUENCE", data, "an escape in a text is not one of ClickHouse's"],
  [26, "CANNOT_PARSE_QUOTED_STRING", data, "a text is not closed"],
  [27, "CANNOT_PARSE_INPUT_ASSERTION_FAILED", data, "a row is not in the format of the insert"],
  [38, "CANNOT_PARSE_DATE", data, "a date is none"],
  [41, "CANNOT_PARSE_DATETIME", data, "a time is none"],
  [53, "TYPE_MISMATCH", data, "a value is of another type than its column or typed path"],
  [69, "ARGUMENT_OUT_OF_BOUND", data, "a number or a length is beyond what its type holds"],
  [72, "CANNOT_PARSE_NUMBER", data, "a number is none"],
  [117, "INCORRECT_DATA", data, "the JSON type cannot hold a value, such as an integer beyond 64 bits"],
  [131, "TOO_LARGE_STRING_SIZE", data, "a text is longer than ClickHouse takes"],
  [321, "VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE", data, "a value is beyond the range of its type"],
  [349, "CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN", data, "a column that admits no NULL would get one"],
  [376, "CANNOT_PARSE_UUID", data, "a uuid is none"],
  [469, "VIOLATED_CONSTRAINT", data, "a CHECK constraint of the table is violated"],
  [675, "CANNOT_PARSE_IPV4", data, "an IPv4 address is none"],
  [691, "UNKNOWN_ELEMENT_OF_ENUM", data, "an Enum has no such value"],

  [202, "TOO_MANY_SIMULTANEOUS_QUERIES", passing, "the server runs as many queries as it admits"],
  [203, "NO_FREE_CONNECTION", passing, "the server has no connection to spare"],
  [242, "TABLE_IS_READ_ONLY", passing, "the table is read-only while its replica restarts or has lost Keeper"],
  [252, "TOO_MANY_PARTS", passing, "merges are behind; the server takes no more parts for now"],
  [285, "TOO_FEW_LIVE_REPLICAS", passing, "too few replicas are alive for the quorum"],

  [3, "UNEXPECTED_END_OF_FILE", doubtful, "the request broke off"],
  [159, "TIMEOUT_EXCEEDED", doubtful, "the insert took longer than it may"],
  [198, "DNS_ERROR", doubtful, "a name did not resolve on the way to another server"],
  [209, "SOCKET_TIMEOUT", doubtful, "a connection to another server was silent for too long"],
  [210, "NETWORK_ERROR", doubtful, "a connection to another server broke"],
  [236, "ABORTED", doubtful, "the server is shutting down, or gave the insert up"],
  [
    241,
    "MEMORY_LIMIT_EXCEEDED",
    doubtful,
    "memory ran out, perhaps between the parts of two months, of which the first is then in the table"
  ],
  [243, "NOT_ENOUGH_SPACE", doubtful, "the disk is full, perhaps between the parts of two months"],
  [279, "ALL_CONNECTION_TRIES_FAILED", doubtful, "no replica could be reached"],
  [286, "UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE", doubtful, "an earlier insert has not reached its quorum"],
  [319, "UNKNOWN_STATUS_OF_INSERT", doubtful, "ClickHouse itself does not know whether the insert was written"],
  [394, "QUERY_WAS_CANCELLED", doubtful, "somebody cancelled the insert"],
  [425, "SYSTEM_ERROR", doubtful, "the operating system refused something"],
  [999, "KEEPER_EXCEPTION", doubtful, "Keeper failed, perhaps after the part was written"],
  [1000, "POCO_EXCEPTION", doubtful, "the network below ClickHouse failed"],

  [16, "NO_SUCH_COLUMN_IN_TABLE", configuration, "the table lacks a column of the insert"],
  [48, "NOT_IMPLEMENTED", configuration, "the table's engine cannot do what is asked"],
  [60, "UNKNOWN_TABLE", configuration, "the table does not exist"],
  [62, "SYNTAX_ERROR", configuration, "the statement is not understood: the server is too old"],
  [73, "UNKNOWN_FORMAT", configuration, "the format is not known: the server is too old"],
  [81, "UNKNOWN_DATABASE", configuration, "the database does not exist"],
  [115, "UNKNOWN_SETTING", configuration, "a setting of the insert is not known: the server is too old"],
  [164, "READONLY", configuration, "the user may only read"],
  [192, "UNKNOWN_USER", configuration, "the user does not exist"],
  [193, "WRONG_PASSWORD", configuration, "the password is wrong"],
  [194, "REQUIRED_PASSWORD", configuration, "a password is needed"],
  [452, "SETTING_CONSTRAINT_VIOLATION", configuration, "the user's profile forbids a setting of the insert"],
  [497, "ACCESS_DENIED", configuration, "the user lacks a privilege"],
  [516, "AUTHENTICATION_FAILED", configuration, "user or password is wrong"],
  [701, "CLUSTER_DOESNT_EXIST", configuration, "CLICKHOUSE_CLUSTER names no cluster of the server's"],
  [774, "TABLE_IS_PERMANENTLY_READ_ONLY", configuration, "the table was made read-only"]
]

const meanings = new Map(codes.map(([code, , meaning]) => [code, meaning]))

/**
 * The part is in the table, a view behind it is not: only the same token again can complete it. In ClickHouse's own last
 * words, behind every quotation mark and brace, because before that the text may quote an event that says so.
 */
const PUSHING_TO_VIEW = /: while pushing to view [^"'{}\n]+\([A-Z0-9_]+\) \(version [^"'{}\n]+\)\s*$/

/** Whoever answers without a code is not ClickHouse: a proxy whose upstream is away, or an address that is wrong. */
const fromProxy = (status: number): Meaning => {
  if (status === 429) return passing
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
  if (found === undefined) {
    const meaning = fromProxy(status)
    const advice = meaning === configuration ? ". CLICKHOUSE_URL does not lead to ClickHouse's HTTP interface" : ""
    return new SinkError({ reason: `HTTP status ${status}: ${reason}${advice}`, ...meaning })
  }
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
 * What a failed connection means: in doubt, unless there never was one. A certificate that does not check out is for
 * somebody to put right.
 *
 * @since 0.1.0
 * @category constructors
 */
export const fromConnection = (cause: unknown): SinkError => {
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : ""
  const reason = `ClickHouse was not reached: ${cause instanceof Error ? cause.message || code : cause}`
  const advice = Certificate.advice(cause, { address: "CLICKHOUSE_URL", authority: "CLICKHOUSE_CA_FILE" })
  if (advice !== undefined) return new SinkError({ reason: `${reason}. ${advice}`, ...configuration })
  return new SinkError({
    reason,
    ...(NEVER_CONNECTED.has(code) && isConnecting(cause) ? passing : doubtful)
  })
}

/**
 * What an answer means of which only a part has come.
 *
 * @since 0.1.0
 * @category constructors
 */
export const fromBrokenAnswer = (cause: unknown): SinkError =>
  new SinkError({
    reason: `ClickHouse's answer broke off: ${cause instanceof Error ? cause.message : cause}`,
    ...doubtful
  })

/** A connection that stands can become unreachable too. One of several addresses says so for all of them. */
const isConnecting = (cause: unknown): boolean => {
  if (cause instanceof AggregateError) return cause.errors.every(isConnecting)
  return cause instanceof Error && "syscall" in cause && /^(connect|getaddrinfo)$/.test(String(cause.syscall))
}
