/**
 * JSON as both databases can hold it.
 *
 * `JSON.stringify` turns NaN into null and drops functions without a word, and Postgres' jsonb refuses NUL and unpaired
 * surrogates: each would change or lose an event, so each is a problem with a place and a reason.
 */

export type JsonValue = string | number | boolean | null | JsonObject | ReadonlyArray<JsonValue>
export interface JsonObject {
  readonly [key: string]: JsonValue | undefined
}

export interface JsonProblem {
  readonly path: ReadonlyArray<string>
  readonly reason: string
}

const UNPAIRED_SURROGATE = /\p{Surrogate}/u

/** The first thing in `value` that JSON or jsonb cannot hold. Optional properties (undefined) count as absent. */
export const jsonProblem = (value: unknown): JsonProblem | undefined => {
  try {
    return find(value, [])
  } catch (error) {
    if (error instanceof RangeError) return { path: [], reason: "is nested too deeply, or contains itself" }
    throw error
  }
}

const find = (value: unknown, path: ReadonlyArray<string>): JsonProblem | undefined => {
  switch (typeof value) {
    case "string":
      return textProblem(value, path)
    case "number":
      return Number.isFinite(value) ? undefined : { path, reason: `${value} is not a JSON number` }
    case "boolean":
      return undefined
    case "object":
      return value === null ? undefined : findIn(value, path)
    default:
      return { path, reason: `a ${typeof value} is not JSON` }
  }
}

const findIn = (value: object, path: ReadonlyArray<string>): JsonProblem | undefined => {
  if ("toJSON" in value && typeof value.toJSON === "function") return find(value.toJSON(), path)
  if (value instanceof Map || value instanceof Set) return { path, reason: "a Map or Set is not JSON" }
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) {
      const problem = find(value[i], [...path, String(i)])
      if (problem !== undefined) return problem
    }
    return undefined
  }
  for (const [key, member] of Object.entries(value)) {
    if (member === undefined) continue
    const at = [...path, key]
    const problem = textProblem(key, at) ?? find(member, at)
    if (problem !== undefined) return problem
  }
  return undefined
}

const textProblem = (text: string, path: ReadonlyArray<string>): JsonProblem | undefined => {
  if (text.includes("\0")) return { path, reason: "contains the character U+0000, which Postgres cannot hold" }
  if (UNPAIRED_SURROGATE.test(text)) return { path, reason: "contains an unpaired surrogate, which is not Unicode" }
  return undefined
}
