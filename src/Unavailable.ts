/** Errors of Postgres that may pass by themselves. */
import * as Predicate from "effect/Predicate"

/** Not EPIPE and its like. */
const SQLSTATE = /^[0-9FHPX][0-9A-Z]{4}$/
/** Connections, shortage of something, shutdowns, and transactions that were in each other's way. */
const PASSES = /^(?:08|40|53|55P03|57)/

/** Whether it may pass by itself: nobody answers, or one who is starting, stopping, full or busy. */
export const isUnavailable = (error: unknown): boolean => {
  if (!Predicate.hasProperty(error, "cause")) return true
  const { cause } = error
  if (Predicate.hasProperty(cause, "code") && Predicate.isString(cause.code) && SQLSTATE.test(cause.code)) {
    return PASSES.test(cause.code)
  }
  return isUnavailable(cause)
}
