/**
 * JSON as both databases can hold it.
 *
 * `JSON.stringify` turns NaN into null and drops functions without a word, and Postgres' jsonb refuses NUL and unpaired
 * surrogates: each would change or lose an event, so each is a problem with a place and a reason.
 */
import * as Predicate from "effect/Predicate"

export type JsonValue = string | number | boolean | null | JsonObject | ReadonlyArray<JsonValue>
export interface JsonObject {
  readonly [key: string]: JsonValue | undefined
}

export interface JsonProblem {
  readonly path: ReadonlyArray<string>
  readonly reason: string
}

const UNPAIRED_SURROGATE = /\p{Surrogate}/u

/** How deep a value may be inside others: ClickHouse's parser ends at 1,023, and Postgres checks the same number. */
const MAX_LEVELS = 1000

/** The first thing in `value` that JSON or a database cannot hold. Optional properties (undefined) count as absent. */
export const jsonProblem = (value: unknown): JsonProblem | undefined => find(value, [])

/** `path` leads to `value`. It is one array for all, because every member of every event comes through here. */
const find = (value: unknown, path: Array<string>): JsonProblem | undefined => {
  if (path.length > MAX_LEVELS) return problem([], `is nested deeper than ${MAX_LEVELS} levels, or contains itself`)
  if (Predicate.hasProperty(value, "toJSON") && Predicate.isFunction(value.toJSON)) {
    return value instanceof Date && Number.isNaN(value.getTime())
      ? problem(path, "an invalid Date is not JSON")
      : findIn(value.toJSON(), path)
  }
  return findIn(value, path)
}

const findIn = (value: unknown, path: Array<string>): JsonProblem | undefined => {
  switch (typeof value) {
    case "string":
      return textProblem(value, path)
    case "number":
      return Number.isFinite(value) ? undefined : problem(path, `${value} is not a JSON number`)
    case "boolean":
      return undefined
    case "object":
      return value === null ? undefined : findInMembers(value, path)
    default:
      return problem(path, `${typeof value} is not JSON`)
  }
}

const findInMembers = (value: object, path: Array<string>): JsonProblem | undefined => {
  if (value instanceof Map || value instanceof Set) return problem(path, "a Map or Set is not JSON")
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) {
      path.push(String(i))
      const found = find(value[i], path)
      if (found !== undefined) return found
      path.pop()
    }
    return undefined
  }
  for (const [key, member] of Object.entries(value)) {
    if (member === undefined) continue
    path.push(key)
    const found = textProblem(key, path) ?? find(member, path)
    if (found !== undefined) return found
    path.pop()
  }
  return undefined
}

const textProblem = (text: string, path: ReadonlyArray<string>): JsonProblem | undefined => {
  if (text.includes("\0")) return problem(path, "contains the character U+0000, which Postgres cannot hold")
  if (UNPAIRED_SURROGATE.test(text)) return problem(path, "contains an unpaired surrogate, which is not Unicode")
  return undefined
}

const problem = (path: ReadonlyArray<string>, reason: string): JsonProblem => ({ path: [...path], reason })
