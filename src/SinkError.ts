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
  settled: Schema.Boolean
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

/** Names as in ClickHouse's src/Common/ErrorCodes.cpp. */
const meanings: ReadonlyMap<number, Meaning> = new Map([
  [6, data], // CANNOT_PARSE_TEXT
  [25, data], // CANNOT_PARSE_ESCAPE_SEQUENCE
  [26, data], // CANNOT_PARSE_QUOTED_STRING
  [27, data], // CANNOT_PARSE_INPUT_ASSERTION_FAILED
  [38, data], // CANNOT_PARSE_DATE
  [41, data], // CANNOT_PARSE_DATETIME
  [53, data], // TYPE_MISMATCH
  [69, data], // ARGUMENT_OUT_OF_BOUND
  [72, data], // CANNOT_PARSE_NUMBER
  [117, data], // INCORRECT_DATA
  [131, data], // TOO_LARGE_STRING_SIZE
  [321, data], // VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
  [349, data], // CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
  [376, data], // CANNOT_PARSE_UUID
  [469, data], // VIOLATED_CONSTRAINT
  [675, data], // CANNOT_PARSE_IPV4
  [691, data], // UNKNOWN_ELEMENT_OF_ENUM

  [202, busy], // TOO_MANY_SIMULTANEOUS_QUERIES
  [203, busy], // NO_FREE_CONNECTION
  [242, busy], // TABLE_IS_READ_ONLY
  [252, busy], // TOO_MANY_PARTS
  [285, busy], // TOO_FEW_LIVE_REPLICAS

  [3, doubtful], // UNEXPECTED_END_OF_FILE
  [159, doubtful], // TIMEOUT_EXCEEDED
  [198, doubtful], // DNS_ERROR
  [209, doubtful], // SOCKET_TIMEOUT
  [210, doubtful], // NETWORK_ERROR
  [236, doubtful], // ABORTED
  // Also between the parts of two months, of which the first is then in the table.
  [241, doubtful], // MEMORY_LIMIT_EXCEEDED
  [243, doubtful], // NOT_ENOUGH_SPACE
  [279, doubtful], // ALL_CONNECTION_TRIES_FAILED
  [286, doubtful], // UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE
  [319, doubtful], // UNKNOWN_STATUS_OF_INSERT
  [394, doubtful], // QUERY_WAS_CANCELLED
  [425, doubtful], // SYSTEM_ERROR
  [999, doubtful], // KEEPER_EXCEPTION
  [1000, doubtful], // POCO_EXCEPTION

  [16, configuration], // NO_SUCH_COLUMN_IN_TABLE
  [48, configuration], // NOT_IMPLEMENTED
  [60, configuration], // UNKNOWN_TABLE
  [62, configuration], // SYNTAX_ERROR
  [73, configuration], // UNKNOWN_FORMAT
  [81, configuration], // UNKNOWN_DATABASE
  [115, configuration], // UNKNOWN_SETTING
  [164, configuration], // READONLY
  [192, configuration], // UNKNOWN_USER
  [193, configuration], // WRONG_PASSWORD
  [194, configuration], // REQUIRED_PASSWORD
  [497, configuration], // ACCESS_DENIED
  [516, configuration], // AUTHENTICATION_FAILED
  [774, configuration] // SETTING_CONSTRAINT_VIOLATION
])

/**
 * The part is in the table, a view behind it is not: only the same token again can complete it. At the end, because
 * before that the text may quote an event that says so.
 */
const PUSHING_TO_VIEW = /: while pushing to view [^"{}\n]+\(version [^\n]+\)\s*$/i

/** Whoever answers without a code is not ClickHouse: a proxy whose upstream is away, or an address that is wrong. */
const fromProxy = (status: number): Meaning => (status >= 500 ? doubtful : configuration)

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
  return new SinkError({
    code,
    reason,
    ...(PUSHING_TO_VIEW.test(text) ? unknown : (meanings.get(code) ?? unknown))
  })
}

const MAX_REASON_CHARACTERS = 4_000

/** ClickHouse goes on with every column of the row and of its neighbours, which have no place in a log. */
const ROW_DUMP = /\s*:\s*\nRow 1:\n[\s\S]*$/

/** Failed before a byte was sent. */
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
    settled: NEVER_CONNECTED.has(code)
  })
}
