/** What Postgres, or the way to it, did to a command: said with the server's name, which an error of SQL lacks. */
import { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Config from "../Config.ts"
import * as Certificate from "../internal/certificate.ts"
import { reasonOf } from "../internal/text.ts"
import { isUnavailable, sqlStateOf } from "../Postgres.ts"

export class PostgresFailed extends Schema.TaggedError<PostgresFailed>()("PostgresFailed", {
  /** Host and port. */
  address: Schema.String,
  /** Postgres' own code for it, if Postgres answered. */
  sqlState: Schema.optionalWith(Schema.String, { exact: true }),
  reason: Schema.String
}) {
  override get message(): string {
    return this.sqlState === undefined
      ? `Postgres at ${this.address} cannot be reached: ${this.reason}`
      : `Postgres at ${this.address} refused: ${this.reason} (SQLSTATE ${this.sqlState})`
  }

  /** Whether it may pass by itself: nobody answers, or one who is starting, stopping, full or busy. */
  get isTransient(): boolean {
    return isUnavailable({ code: this.sqlState })
  }
}

/** Host and port, without the user and the password that are in a URL as well. */
const addressOf = (url: Redacted.Redacted): string => {
  const { hostname, port, searchParams } = new URL(Redacted.value(url))
  return `${searchParams.get("host") ?? (decodeURIComponent(hostname) || "localhost")}:${port || 5432}`
}

export const fromSqlError = ({ url }: Config.Postgres, { cause }: SqlError): PostgresFailed => {
  const sqlState = sqlStateOf(cause)
  return new PostgresFailed({
    address: addressOf(url),
    reason: [
      reasonOf(cause),
      ...Arr.fromNullable(
        Certificate.advice(cause, { address: "DATABASE_URL", authority: "sslrootcert of DATABASE_URL" })
      )
    ].join(". "),
    ...(sqlState !== undefined && { sqlState })
  })
}

/** Names the server in errors of SQL. */
export const namePostgres =
  (config: Config.Postgres) =>
  <A, E, R>(effect: Effect.Effect<A, E | SqlError, R>): Effect.Effect<A, E | PostgresFailed, R> =>
    Effect.mapError(effect, (error) => (error instanceof SqlError ? fromSqlError(config, error) : error))
