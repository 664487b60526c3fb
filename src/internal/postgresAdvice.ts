/** What to do about an error of Postgres, or of a pooler before it, whose own words do not say it. */
import * as Predicate from "effect/Predicate"

const ADVICE: ReadonlyArray<readonly [sqlState: string, words: RegExp, advice: string]> = [
  [
    "25006",
    /read-only transaction/,
    "This Postgres is a standby, or its default_transaction_read_only is on: DATABASE_URL must lead to the primary"
  ],
  ["0A000", /during recovery/, "This Postgres is a standby: DATABASE_URL must lead to the primary"],
  [
    "08P01",
    /unsupported startup parameter/,
    "This is PgBouncer, which takes no such parameter: connect to Postgres itself, or see docs/faq.md#does-it-work-behind-pgbouncer"
  ]
]

/** Undefined where there is nothing to add. Looks at what caused the error as well. */
export const advice = (error: unknown): string | undefined => {
  if (!Predicate.isRecord(error)) return undefined
  const { cause, code, message } = error
  const found = ADVICE.find(([sqlState, words]) => sqlState === code && words.test(String(message)))
  return found?.[2] ?? advice(cause)
}
