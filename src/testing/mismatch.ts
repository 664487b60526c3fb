/** Comparing what was published with what a test expects of it. */
import * as Equal from "effect/Equal"
import * as Inspectable from "effect/Inspectable"
import * as Predicate from "effect/Predicate"

/**
 * What a test expects of an `A`: all of it, or some of its properties and they again whole or in part, or that a
 * predicate holds.
 *
 * @since 0.1.0
 * @category models
 */
export type Expected<A> =
  | A
  | ((actual: A) => boolean)
  | (A extends object ? { readonly [K in keyof A]?: Expected<A[K]> } : never)

/** The first place where `actual` is not as expected, and how it differs. */
export const mismatch = (expected: unknown, actual: unknown, path = ""): string | undefined => {
  if (Predicate.isFunction(expected)) {
    return expected(actual) === true
      ? undefined
      : `${at(path)} is ${show(actual)}, which does not satisfy the predicate`
  }
  if (Array.isArray(expected) && Array.isArray(actual) && expected.length === actual.length) {
    return firstMismatch(expected.keys(), (i) => mismatch(expected[i], actual[i], join(path, String(i))))
  }
  if (isPlain(expected) && Predicate.isRecord(actual)) {
    return firstMismatch(Object.keys(expected), (key) => mismatch(expected[key], actual[key], join(path, key)))
  }
  return Equal.equals(expected, actual) ? undefined : `${at(path)} is ${show(actual)}, not ${show(expected)}`
}

const firstMismatch = <A>(keys: Iterable<A>, compare: (key: A) => string | undefined): string | undefined => {
  for (const key of keys) {
    const found = compare(key)
    if (found !== undefined) return found
  }
  return undefined
}

/** An object that is nothing but its properties; a Date or an Option is more. */
const isPlain = (value: unknown): value is Readonly<Record<string, unknown>> =>
  Predicate.isRecord(value) && Object.getPrototypeOf(value) === Object.prototype

const join = (path: string, key: string): string => (path === "" ? key : `${path}.${key}`)

const at = (path: string): string => (path === "" ? "the context" : path)

const show = (value: unknown): string =>
  Predicate.isString(value) ? JSON.stringify(value) : Inspectable.toStringUnknown(value, 0)
