/**
 * What it means that ClickHouse did not take a batch. Decided by its error code and never by the HTTP status, because bad
 * data also comes as 500.
 *
 * Only relays, and commands that ask ClickHouse, need this module. An application that publishes never sees a
 * {@link SinkError}: do not depend on it there.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import * as Certificate from "./internal/certificate.ts"

/**
 * What is to be done about a failed attempt.
 *
 * - `data`: ClickHouse refuses the events themselves. Sending them again cannot help: they are isolated.
 * - `transient`: it will pass, and nothing was written. Try again, soon at first.
 * - `in-doubt`: it will pass, but the batch may have been written, or may still be. Try again, identically.
 * - `configuration`: somebody must put something right. Try again slowly, and raise an alarm.
 * - `unknown`: nobody knows what it means. Treated like `configuration`.
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
 * Whether ClickHouse's words may quote events that it was sent. Errors of the other classes are about servers, tables and
 * limits.
 */
export const mayQuoteEvents = (errorClass: string): boolean => errorClass === "data" || errorClass === "unknown"

interface Meaning {
  readonly errorClass: ErrorClass
  readonly settled: boolean
}

const data: Meaning = { errorClass: "data", settled: true }
const configuration: Meaning = { errorClass: "configuration", settled: true }
/** Refused before the block was written. */
const transient: Meaning = { errorClass: "transient", settled: true }
/** Broke off somewhere in between. */
const inDoubt: Meaning = { errorClass: "in-doubt", settled: false }
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

  [202, "TOO_MANY_SIMULTANEOUS_QUERIES", transient, "the server runs as many queries as it admits"],
  [203, "NO_FREE_CONNECTION", transient, "the server has no connection to spare"],
  [242, "TABLE_IS_READ_ONLY", transient, "the table is read-only while its replica restarts or has lost Keeper"],
  [252, "TOO_MANY_PARTS", transient, "merges are behind; the server takes no more parts for now"],
  [285, "TOO_FEW_LIVE_REPLICAS", transient, "too few replicas are alive for the quorum"],

  [3, "UNEXPECTED_END_OF_FILE", inDoubt, "the request broke off"],
  [159, "TIMEOUT_EXCEEDED", inDoubt, "the insert took longer than it may"],
  [198, "DNS_ERROR", inDoubt, "a name did not resolve on the way to another server"],
  [209, "SOCKET_TIMEOUT", inDoubt, "a connection to another server was silent for too long"],
  [210, "NETWORK_ERROR", inDoubt, "a connection to another server broke"],
  [236, "ABORTED", inDoubt, "the server is shutting down, or gave the insert up"],
  [
    241,
    "MEMORY_LIMIT_EXCEEDED",
    inDoubt,
    "memory ran out, perhaps between the parts of two months, of which the first is then in the table"
  ],
  [243, "NOT_ENOUGH_SPACE", inDoubt, "the disk is full, perhaps between the parts of two months"],
  [279, "ALL_CONNECTION_TRIES_FAILED", inDoubt, "no replica could be reached"],
  [286, "UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE", inDoubt, "an earlier insert has not reached its quorum"],
  [319, "UNKNOWN_STATUS_OF_INSERT", inDoubt, "ClickHouse itself does not know whether the insert was written"],
  [394, "QUERY_WAS_CANCELLED", inDoubt, "somebody cancelled the insert"],
  [425, "SYSTEM_ERROR", inDoubt, "the operating system refused something"],
  [999, "KEEPER_EXCEPTION", inDoubt, "Keeper failed, perhaps after the part was written"],
  [1000, "POCO_EXCEPTION", inDoubt, "the network below ClickHouse failed"],

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
 * The part is in the table, and a materialized view failed to take it: only the same token again can complete it. Looked
 * for in ClickHouse's last words, behind every quotation mark and brace, because the text before may quote an event that
 * says the same.
 */
const PUSHING_TO_VIEW = /: while pushing to view [^"'{}\n]+\([A-Z0-9_]+\) \(version [^"'{}\n]+\)\s*$/

/**
 * A setting of the user's profile, and no event, cannot be parsed. Likewise in ClickHouse's own last words. Those that
 * inserts are known to read are sent with their defaults; this is for the next one.
 */
const BAD_SETTING = / into (?:set|vector) of identifiers(?:: [^"'{}\n]+)?\. \([A-Z0-9_]+\) \(version [^"'{}\n]+\)\s*$/

const ofText = (text: string): Meaning | undefined => {
  if (PUSHING_TO_VIEW.test(text)) return unknown
  return BAD_SETTING.test(text) ? configuration : undefined
}

/**
 * What answers without a code is not ClickHouse: a proxy whose upstream is away, or a server at a wrong address. Where it
 * says yes it may be a proxy that writes ClickHouse's yes anew.
 */
const fromProxy = (status: number): Meaning => {
  if (status === 429) return transient
  if (status >= 200 && status < 300) return { ...configuration, settled: false }
  return status >= 500 || status === 408 || status === 499 ? inDoubt : configuration
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
    return new SinkError({
      reason: [
        `HTTP status ${status}${reason === "" ? "" : `: ${reason}`}`,
        ...(meaning.errorClass === "configuration"
          ? ["CLICKHOUSE_URL does not lead to ClickHouse's HTTP interface"]
          : [])
      ].join(". "),
      ...meaning
    })
  }
  const code = Number(found)
  const meaning = ofText(text) ?? meanings.get(code) ?? unknown
  return new SinkError({ code, reason, ...meaning, ...(meaning === data && refusedRow(code, text)) })
}

/**
 * The row that ClickHouse names. It names one while it parses and when it checks constraints, both before anything is
 * written. Rows are counted from the start of the request, however that is divided into chunks: the number was exact
 * wherever the row was among 50,000 of 0.2 and 2 kB. Of several bad rows it is the first, unless chunks are parsed at the
 * same time.
 *
 * An error that names no row may also come from an index, a projection or the sorting key. These are computed while a part
 * is written, when the part of another month may be in the table already: seen with 26.7.
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

/** ClickHouse adds every column of the row and of its neighbours, which have no place in a log. */
const ROW_DUMP = /\s*:\s*\nRow \d+:\n[\s\S]*$/

/** If one of these comes while connecting, no byte was sent. */
const NEVER_CONNECTED = new Set(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH"])

/**
 * What a failed connection means: the attempt is in doubt, unless there never was a connection. A certificate that does
 * not check out is for somebody to put right.
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
    ...(NEVER_CONNECTED.has(code) && isConnecting(cause) ? transient : inDoubt)
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
    ...inDoubt
  })

/** An established connection can become unreachable too. Where a host has several addresses, all must have failed. */
const isConnecting = (cause: unknown): boolean => {
  if (cause instanceof AggregateError) return cause.errors.every(isConnecting)
  return cause instanceof Error && "syscall" in cause && /^(connect|getaddrinfo)$/.test(String(cause.syscall))
}
