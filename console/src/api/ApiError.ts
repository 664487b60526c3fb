/** Why the server did not do what it was asked. */
import { Problem } from "clickhouse-outbox/operator-api"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Predicate from "effect/Predicate"

/** Nothing came back. */
class Unreachable extends Data.TaggedError("Unreachable") {
  override get message(): string {
    return `Nothing answers at ${location.host}. The relay may be restarting, or your way to it is cut. Events are safe in Postgres; this page keeps trying.`
  }
}

/** Nothing came back in time, as when the relay's machine is stopped: that there is a connection says nothing. */
export class TimedOut extends Data.TaggedError("TimedOut")<{
  readonly timeout: Duration.Duration
  /** Whether something was to be changed. */
  readonly isChange: boolean
}> {
  override get message(): string {
    const seconds = `No answer from ${location.host} within ${Duration.toSeconds(this.timeout)} seconds.`
    return this.isChange
      ? `${seconds} What was asked for may be done all the same: look before you ask again.`
      : `${seconds} The relay may be stopped or busy, or your way to it is cut. Events are safe in Postgres; this page keeps trying.`
  }
}

/** Something came back that this console does not understand. */
class UnexpectedAnswer extends Data.TaggedError("UnexpectedAnswer")<{ readonly reason: string }> {
  override get message(): string {
    return `The answer was not understood: ${this.reason}. If the relay was upgraded meanwhile, reload the page.`
  }
}

export type ApiError = Problem | Unreachable | TimedOut | UnexpectedAnswer

export const toApiError = (error: unknown): ApiError => {
  if (error instanceof Problem || error instanceof TimedOut) return error
  if (Predicate.isTagged(error, "RequestError")) return new Unreachable()
  return new UnexpectedAnswer({ reason: error instanceof Error ? firstLine(error.message) : String(error) })
}

/** What went wrong, in a few words. */
export const titleOf = (error: ApiError): string => {
  switch (error._tag) {
    case "Problem":
      return error.title
    case "Unreachable":
    case "TimedOut":
      return "The relay does not answer"
    case "UnexpectedAnswer":
      return "The answer was not understood"
  }
}

const firstLine = (text: string): string => text.split("\n", 1)[0] ?? ""

declare module "@tanstack/react-query" {
  interface Register {
    defaultError: ApiError
  }
}
