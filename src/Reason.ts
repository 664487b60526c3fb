/**
 * Why something failed, in one line for people.
 *
 * Libraries wrap what happened, "connect ECONNREFUSED 127.0.0.1:5432", into what they were about to do, "Failed to
 * acquire connection". The innermost message is the one that helps. No message of these carries a password.
 *
 * @internal
 */
export const reasonOf = (error: unknown): string => {
  // One for each address of a host.
  if (error instanceof AggregateError) return error.errors.map(reasonOf).join("; ")
  if (!(error instanceof Error)) return String(error)
  return error.cause === undefined ? error.message || error.name : reasonOf(error.cause)
}
