/** Why something failed, in one line for people. */
import { SqlError } from "@effect/sql/SqlError"

/**
 * The messages of an error and of what caused it. An error of SQL only says what was about to be done, "Failed to
 * acquire connection": its cause says what happened. None of the libraries' messages carries a password.
 *
 * @internal
 */
export const reasonOf = (error: unknown): string => {
  if (error instanceof SqlError) return reasonOf(error.cause)
  // One for each address of a host.
  if (error instanceof AggregateError) return error.errors.map(reasonOf).join("; ")
  if (!(error instanceof Error)) return String(error)
  const message = error.message || error.name
  const cause = error.cause === undefined ? "" : reasonOf(error.cause)
  return message.includes(cause) ? message : `${message}: ${cause}`
}
