/** Random JSON documents, and what the JSON column makes of them. */
import * as FastCheck from "effect/FastCheck"
import type * as Event from "../../src/Event.ts"

/** What TabSeparated, COPY, JSON or SQL could take for something else. */
export const nasty = [
  ..."\t\n\r\b\f\v\\'\"`\u0001\u001f\u007f\u0085\u00a0\u2028\u2029\ufeff\ufffe\uffff\ufffd",
  ...["\\N", "\\t", "\\n", "\\.", "\\\\", "\\x41", "\\u0041", "NULL", "null", "nan", "inf", "true", "1", "0x10", "1e5"],
  ...["2024-01-01", "2024-01-01 00:00:00", "2024-01-01T00:00:00.123Z", "00:00:00", "127.0.0.1"],
  ...["a.b", "a..b", ".", "..", "a b", "a,b", "[]", "{}", "[1]", '{"a":1}', "(1,2)", "%", "$1", "{a:String}", "?"],
  ...[
    "__proto__",
    "constructor",
    "toString",
    "length",
    "é",
    "e\u0301",
    "ß",
    "İ",
    "👩‍👩‍👧",
    "𝒳",
    "\u{10ffff}",
    "中文",
    "שלום"
  ]
]

export const text = FastCheck.oneof(
  FastCheck.constantFrom(...nasty),
  FastCheck.string({ unit: "binary", maxLength: 20 }).map((string) => string.replaceAll("\0", "")),
  FastCheck.array(FastCheck.constantFrom(...nasty), { minLength: 2, maxLength: 5 }).map((parts) => parts.join(""))
)

/** A key that holds %2E would be read back as a dot: see below. */
const key = FastCheck.oneof(text, FastCheck.constant("")).filter((key) => !key.includes("%2E"))

const number = FastCheck.oneof(
  FastCheck.maxSafeInteger(),
  FastCheck.double({ noNaN: true, noDefaultInfinity: true }).filter((n) => !Number.isInteger(n)),
  FastCheck.constantFrom(0, 1, -1, 0.1, 5e-324, -2.5e-10, 123456789.125)
)

/** One would become an empty array where another element is an array, in this or in another event: see below. */
const withoutNulls = (values: ReadonlyArray<Event.JsonValue>) => values.filter((value) => value !== null)

export const { context } = FastCheck.letrec<{ context: Event.JsonObject; value: Event.JsonValue }>((tie) => ({
  context: FastCheck.dictionary(key, tie("value"), { maxKeys: 6, depthIdentifier: "json" }),
  value: FastCheck.oneof(
    { depthIdentifier: "json", depthSize: "small", withCrossShrink: true },
    FastCheck.oneof(text, number, FastCheck.boolean(), FastCheck.constant(null)),
    FastCheck.array(tie("value"), { maxLength: 5, depthIdentifier: "json" }).map(withoutNulls),
    tie("context")
  )
}))

/** What docs/architecture.md says that the JSON column does: null and empty objects vanish from objects. */
export const asStored = (value: Event.JsonValue): Event.JsonValue => {
  if (Array.isArray(value)) return value.map(asStored)
  if (typeof value !== "object" || value === null) return value
  return Object.fromEntries(
    Object.entries(value).flatMap(([key, member]) => {
      const stored = asStored(member ?? null)
      return stored === null || isEmptyObject(stored) ? [] : [[key, stored]]
    })
  )
}

const isEmptyObject = (value: Event.JsonValue): boolean =>
  typeof value === "object" && value !== null && !Array.isArray(value) && Object.keys(value).length === 0

/** Text that is the same for the same JSON, whatever the order of its keys. */
export const canonical = (value: unknown): string =>
  JSON.stringify(value, (_, member) =>
    typeof member === "object" && member !== null && !Array.isArray(member)
      ? Object.fromEntries(Object.entries(member).sort(([a], [b]) => (a < b ? -1 : 1)))
      : member
  )
