/**
 * Whether a row of ClickHouse says what its event says, up to what the JSON type changes without an error:
 * docs/architecture.md#clickhouses-table.
 */
import type { Row } from "../ClickHouseSink.ts"

/** What of a row is compared, as one text: rows that say the same have the same. */
export const canonicalRow = (row: Omit<Row, "eventId">): string =>
  JSON.stringify([
    row.eventType,
    toMicroseconds(row.eventDateTime),
    row.environment,
    row.metadataVersion,
    row.traceId,
    canonicalContext(row.eventContext)
  ])

/** Postgres leaves out zeros at the end of a fraction, and ClickHouse prints them. */
const toMicroseconds = (time: string): string => {
  const [seconds = "", fraction = ""] = time.split(".")
  return `${seconds}.${fraction.padEnd(6, "0")}`
}

/** A string of JSON, or a number. */
const STRING_OR_NUMBER = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g

/** Begins numbers that are made strings so that they keep their digits. No text that Postgres stores has a NUL. */
const NUMBER = "\0"

const canonicalContext = (json: string): unknown => {
  const withNumbersAsText = json.replaceAll(STRING_OR_NUMBER, (token) =>
    token.startsWith('"') ? token : `"\\u0000${token}"`
  )
  return canonical(JSON.parse(withNumbersAsText), { inArray: false })
}

/** Null and empty objects are not stored in an object; in an array either may become the other, or an empty array. */
const canonical = (value: unknown, place: { readonly inArray: boolean }): unknown => {
  if (typeof value === "string") return value.startsWith(NUMBER) ? canonicalNumber(value.slice(1), place) : value
  if (Array.isArray(value)) {
    const elements = value.map((element) => canonical(element, { inArray: true }))
    return place.inArray && elements.length === 0 ? null : elements
  }
  if (typeof value !== "object" || value === null) return value
  const members = Object.entries(value)
    .map(([key, member]) => [key.replaceAll("%2E", "."), canonical(member, place)] as const)
    .filter(([, member]) => member !== null)
    .sort(([one], [other]) => (one < other ? -1 : 1))
  // As pairs: an object would put keys that look like numbers first, and lose __proto__.
  return members.length === 0 ? null : { members }
}

const INTEGER = /^-?\d+$/

/**
 * A whole number is exact, unless it is in an array, where any fraction in the same place of another event makes all of
 * them Float64. Every other number is the nearest Float64.
 */
const canonicalNumber = (digits: string, { inArray }: { readonly inArray: boolean }): string =>
  NUMBER + (INTEGER.test(digits) && !inArray ? String(BigInt(digits)) : String(Number(digits)))
