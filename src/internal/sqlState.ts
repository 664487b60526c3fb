/**
 * What Postgres' error codes mean for this library: the one place that knows them.
 *
 * An error is told by its fields, not by `pg.DatabaseError`: a program may have two copies of pg.
 */
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"

/**
 * - `connection-lost`: the server, or the way to it, is gone. A COMMIT that ends like this may have been done.
 * - `contended`: the server answered, and the statement did nothing. It may well do it the next time.
 * - `not-permitted`: the role lacks a privilege.
 * - `no-outbox`: a table or a schema does not exist.
 * - `invalid-data`: Postgres will never take these values.
 * - `other`: a bug here, or a server that is set up wrong.
 */
type Meaning = "connection-lost" | "contended" | "not-permitted" | "no-outbox" | "invalid-data" | "other"

/** By class, the first two characters of a code, or by the beginning of one. The longest that fits is what counts. */
const meanings: ReadonlyArray<readonly [code: string, name: string, meaning: Meaning, why: string]> = [
  ["08", "connection exception", "connection-lost", "the connection broke, or was never made"],
  ["25P03", "idle in transaction session timeout", "connection-lost", "the server has ended the session"],
  ["25P04", "transaction timeout", "connection-lost", "the server has ended the session"],
  ["57P", "shutdown, start, ended session", "connection-lost", "the server's last words, or its first"],

  [
    "40",
    "transaction rollback",
    "contended",
    "two transactions were in each other's way, and this one was rolled back"
  ],
  ["53", "insufficient resources", "contended", "connections, memory or disk space are short"],
  ["55P03", "lock not available", "contended", "somebody else held the lock for longer than lock_timeout"],
  ["57", "operator intervention", "contended", "a statement was cancelled, or took longer than statement_timeout"],

  ["42501", "insufficient privilege", "not-permitted", "the role was not granted what the statement does"],

  ["3F000", "invalid schema name", "no-outbox", "the schema does not exist"],
  ["42P01", "undefined table", "no-outbox", "the table does not exist"],

  ["22", "data exception", "invalid-data", "a value is not of its type, or beyond it"],
  ["23", "integrity constraint violation", "invalid-data", "a value breaks a rule of its domain or its table"],
  ["54", "program limit exceeded", "invalid-data", "a value is larger than Postgres can store"],
  ["P0", "PL/pgSQL error", "invalid-data", "a trigger of the database's owner raised it: a rule of their own"]
]

const LOCK_NOT_AVAILABLE = "55P03"

/** Tells codes of Postgres from those of Node, such as EPIPE. */
const SQLSTATE = /^[0-9FHPX][0-9A-Z]{4}$/

/** Postgres' own code, if Postgres answered: of the error, or of what caused it. */
export const sqlStateOf = (error: unknown): string | undefined => {
  if (Predicate.hasProperty(error, "code") && Predicate.isString(error.code) && SQLSTATE.test(error.code)) {
    return error.code
  }
  return Predicate.hasProperty(error, "cause") ? sqlStateOf(error.cause) : undefined
}

/** What has no code is not from Postgres, but from the way to it. */
const meaningOf = (error: unknown): Meaning => {
  const sqlState = sqlStateOf(error)
  if (sqlState === undefined) return "connection-lost"
  const [longest] = meanings
    .filter(([code]) => sqlState.startsWith(code))
    .toSorted(([one], [other]) => other.length - one.length)
  return longest?.[2] ?? "other"
}

/** Whether the server, or the way to it, is gone: what the last statement did is not known. */
export const isConnectionLost = (error: unknown): boolean => meaningOf(error) === "connection-lost"

/** Whether it may pass by itself: nobody answers, or one who is starting, stopping, full or contended. */
export const isUnavailable = (error: unknown): boolean => isConnectionLost(error) || meaningOf(error) === "contended"

/** Whether the role lacks a privilege. */
export const isNotPermitted = (error: unknown): boolean => meaningOf(error) === "not-permitted"

/** Whether a table or the schema does not exist. */
export const isNoOutbox = (error: unknown): boolean => meaningOf(error) === "no-outbox"

/** Whether a lock could not be had within lock_timeout. */
export const isLockTimeout = (error: unknown): boolean => sqlStateOf(error) === LOCK_NOT_AVAILABLE

const InvalidData = Schema.Struct({
  message: Schema.String,
  /** The name of the rule, if it is one of a domain or a table. */
  constraint: Schema.optional(Schema.String),
  detail: Schema.optional(Schema.String),
  /** In which line and column of a COPY. */
  where: Schema.optional(Schema.String)
})
export type InvalidData = typeof InvalidData.Type

const decodeInvalidData = Schema.decodeUnknownOption(InvalidData)

/** What Postgres says about the values that it was given, if they are what is wrong. */
export const invalidData = ({ cause }: { readonly cause?: unknown }): Option.Option<InvalidData> =>
  meaningOf(cause) === "invalid-data" ? decodeInvalidData(cause) : Option.none()
