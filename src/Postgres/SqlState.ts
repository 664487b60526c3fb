/** Errors of Postgres, by what is to be done about them. */
import * as Predicate from "effect/Predicate"

/** Not EPIPE and its like. */
const SQLSTATE = /^[0-9FHPX][0-9A-Z]{4}$/
/** Connections, shortage of something, shutdowns, and transactions that were in each other's way. */
const NO_ANSWER = "08000"
const PASSES = /^(?:08|40|53|55P03|57)/

const INSUFFICIENT_PRIVILEGE = "42501"

/** Postgres' own code, if it answered. */
const sqlState = (error: unknown): string | undefined => {
  if (!Predicate.hasProperty(error, "cause")) return undefined
  const { cause } = error
  return Predicate.hasProperty(cause, "code") && Predicate.isString(cause.code) && SQLSTATE.test(cause.code)
    ? cause.code
    : sqlState(cause)
}

/** Whether it may pass by itself: nobody answers, or one who is starting, stopping, full or busy. */
export const isUnavailable = (error: unknown): boolean => PASSES.test(sqlState(error) ?? NO_ANSWER)

/** Whether the role lacks a privilege. */
export const isNotPermitted = (error: unknown): boolean => sqlState(error) === INSUFFICIENT_PRIVILEGE
