/** What commands run on: Postgres, and errors that name it. */
import type * as SqlClient from "@effect/sql/SqlClient"
import { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as FiberRef from "effect/FiberRef"
import type * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Config from "../Config.ts"
import * as Certificate from "../internal/certificate.ts"
import * as SqlState from "../internal/sqlState.ts"
import { reasonOf } from "../internal/text.ts"
import * as Postgres from "../Postgres.ts"

/** What Postgres, or the way to it, did to a command: said with the server's name, which an error of SQL lacks. */
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
      : `Postgres at ${this.address} answered with an error: ${this.reason} (SQLSTATE ${this.sqlState})`
  }

  /** Whether trying again may help: Postgres did not answer, or was starting, stopping, full, or another transaction was in the way. */
  get isTransient(): boolean {
    return SqlState.isUnavailable({ code: this.sqlState })
  }
}

/** Host and port, without the user and the password that are in a URL as well. */
const addressOf = (url: Redacted.Redacted): string => {
  const { hostname, port, searchParams } = new URL(Redacted.value(url))
  return `${searchParams.get("host") ?? (decodeURIComponent(hostname) || "localhost")}:${port || 5432}`
}

export const fromSqlError = ({ url }: Config.Postgres, { cause }: SqlError): PostgresFailed => {
  const sqlState = SqlState.sqlStateOf(cause)
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

/** Without what services log about a change, which the command prints, unless the log level asks for more than usual. */
export const withoutEcho = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(FiberRef.get(FiberRef.currentMinimumLogLevel), (level) =>
    LogLevel.lessThan(level, LogLevel.Info) ? effect : Logger.withMinimumLogLevel(effect, LogLevel.Error)
  )

/** Runs a command on services that need Postgres, until it ends or a signal comes. */
export const withServices =
  <Services, LayerError>(services: Layer.Layer<Services, LayerError, SqlClient.SqlClient>) =>
  <A, E, R>(command: Effect.Effect<A, E, R>) =>
    Effect.flatMap(Config.postgres, (config) =>
      command.pipe(Effect.provide(services), Effect.provide(Postgres.layerPinned(config)), namePostgres(config))
    ).pipe(withoutEcho, Effect.interruptible)
