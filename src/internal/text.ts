/** Text for people: the reason of an error, and text from anywhere made safe to print. */
import { SqlError } from "@effect/sql/SqlError"
import { advice } from "./postgresAdvice.ts"

/**
 * The messages of an error and of what caused it. An error of SQL only says what was about to be done, "Failed to
 * acquire connection": its cause says what happened. None of the libraries' messages carries a password. Ends with what
 * to do, where Postgres' own words do not say it.
 *
 * @internal
 */
export const reasonOf = (error: unknown): string => {
  const todo = advice(error)
  return todo === undefined ? wordsOf(error) : `${wordsOf(error)}. ${todo}`
}

const wordsOf = (error: unknown): string => {
  if (error instanceof SqlError) return wordsOf(error.cause)
  // One for each address of a host.
  if (error instanceof AggregateError) return error.errors.map(wordsOf).join("; ")
  if (!(error instanceof Error)) return String(error)
  const message = error.message || error.name
  const cause = error.cause === undefined ? "" : wordsOf(error.cause)
  return message.includes(cause) ? message : `${message}: ${cause}`
}

/**
 * Characters that a terminal acts on, that reorder the text around them, or that show nothing, as U+200B and the tag
 * characters do: with one of these a text looks like another.
 */
const UNPRINTABLE = /[\p{Cc}\p{Bidi_Control}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu

/** As JSON escapes them, so that JSON keeps its meaning: beyond U+FFFF as two. */
const escape = (character: string): string =>
  character
    .split("")
    .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`)
    .join("")

/** The text with every unprintable character escaped, line ends included. */
export const visible = (text: string): string => text.replaceAll(UNPRINTABLE, escape)

/** {@link visible}, line by line. */
export const visibleLines = (text: string): string => text.split(/\r?\n/).map(visible).join("\n")
