/**
 * Everything that differs between deployments, read from the environment. docs/configuration.md lists the variables;
 * a test holds that table and `.env.example` against this file.
 *
 * @example
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { Config, Postgres } from "clickhouse-outbox"
 *
 * // As the variables say, but for what this program decides by itself.
 * const PostgresLive = Layer.unwrapEffect(
 *   Effect.map(Config.postgres, (config) => Postgres.layer({ ...config, maxConnections: 20 }))
 * )
 * ```
 * @since 0.1.0
 */
import * as Arr from "effect/Array"
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import * as Duration from "effect/Duration"
import * as Either from "effect/Either"
import { flow } from "effect/Function"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Callers from "./Config/callers.ts"
import { parameterProblem } from "./Config/databaseUrl.ts"
import { Bytes } from "./internal/bytes.ts"

export type { NamedToken, Network, TrustedProxy } from "./Config/callers.ts"
export { type Telemetry, telemetry } from "./Config/telemetry.ts"
export { Bytes } from "./internal/bytes.ts"

const atLeast = (minimum: number, name: string, fallback: number): Config.Config<number> =>
  Config.integer(name).pipe(
    Config.validate({ message: `must be a whole number of at least ${minimum}`, validation: (n) => n >= minimum }),
    Config.withDefault(fallback)
  )

const positiveDuration = (name: string, fallback: Duration.DurationInput): Config.Config<Duration.Duration> =>
  Config.string(name).pipe(
    Config.mapOrFail((text) =>
      Duration.decodeUnknown(text).pipe(
        Option.filter((duration) => Duration.isFinite(duration) && Duration.toMillis(duration) > 0),
        Either.fromOption(() =>
          ConfigError.InvalidData([], `must be a time such as "500 millis" or "30 seconds", longer than 0`)
        )
      )
    ),
    Config.withDefault(Duration.decode(fallback))
  )

/** A URL may carry a password, so it is kept out of logs, and out of the message about what is wrong with it. */
const secretUrl = (name: string, problem: (text: string) => string | undefined): Config.Config<Redacted.Redacted> =>
  Config.redacted(name).pipe(
    Config.mapOrFail((url) => {
      const message = problem(Redacted.value(url))
      return message === undefined ? Either.right(url) : Either.left(ConfigError.InvalidData([name], message))
    })
  )

const ESCAPES = "in a user or a password, write @ as %40, : as %3A, / as %2F, # as %23, ? as %3F and % as %25"

const urlProblem = (text: string, protocols: ReadonlyArray<string>): string | undefined => {
  if (/^["']|["']$/.test(text))
    return "must not be in quotes: whoever reads the variable here takes them for a part of it"
  if (!protocols.some((protocol) => text.toLowerCase().startsWith(`${protocol}//`))) {
    return `must be a URL that starts with ${protocols.join("// or ")}//`
  }
  // What follows a # is no part of an address, so it is a password's, whose rest would be taken for a host.
  if (text.includes("#")) return `must have no # in it: ${ESCAPES}`
  return undefined
}

const databaseUrlProblem = (text: string): string | undefined => {
  const problem = urlProblem(text, ["postgres:", "postgresql:"])
  if (problem !== undefined) return problem
  const [, authority = ""] = /^[^/]*\/\/([^/?]*)/.exec(text) ?? []
  if (authority.slice(authority.lastIndexOf("@") + 1).includes(",")) {
    return "must name one host: name the address that leads to the server that takes writes"
  }
  return URL.canParse(text) ? parameterProblem(new URL(text)) : `is not a URL that can be read: ${ESCAPES}`
}

const clickHouseUrlProblem = (text: string): string | undefined => {
  const problem = urlProblem(text, ["http:", "https:"])
  if (problem !== undefined) return problem
  if (!URL.canParse(text)) return `is not a URL that can be read: ${ESCAPES}`
  // The client would take it for a database's name.
  return new URL(text).pathname === "/"
    ? undefined
    : "must have no path: CLICKHOUSE_DATABASE names the database, and ClickHouse answers at /"
}

const tableName = (name: string): Either.Either<string, ConfigError.ConfigError> => {
  if (name === "") return Either.left(ConfigError.InvalidData([], "must not be empty"))
  // ClickHouse's client escapes these in a parameter, and ClickHouse takes an identifier as it comes.
  if (/['\\\p{Cc}]/u.test(name)) {
    return Either.left(ConfigError.InvalidData([], "must contain no apostrophe, backslash or control character"))
  }
  // It would be a part of the name, not what separates a database from it.
  return name.includes(".")
    ? Either.left(ConfigError.InvalidData([], "must be a table's name alone: CLICKHOUSE_DATABASE names its database"))
    : Either.right(name)
}

const maxConnections = atLeast(3, "DATABASE_MAX_CONNECTIONS", 10)

/**
 * Where Postgres is, and how many connections may be open to it.
 *
 * TLS is asked for in the URL, as libpq does: `?sslmode=verify-full&sslrootcert=/path/ca.pem`.
 *
 * @since 0.1.0
 * @category config
 */
export const postgres = Config.all({
  url: secretUrl("DATABASE_URL", databaseUrlProblem),
  /** Each worker holds one while it copies; sealing, leases and cancelling statements take one each. */
  maxConnections,
  connectTimeout: positiveDuration("DATABASE_CONNECT_TIMEOUT", "5 seconds")
})
export type Postgres = Config.Config.Success<typeof postgres>

/**
 * Where ClickHouse is, and the table events go to. `https:` in the URL turns TLS on, with certificate checking.
 *
 * @since 0.1.0
 * @category config
 */
export const clickHouse = Config.all({
  url: secretUrl("CLICKHOUSE_URL", clickHouseUrlProblem),
  username: Config.option(Config.nonEmptyString("CLICKHOUSE_USER")),
  password: Config.option(Config.redacted("CLICKHOUSE_PASSWORD")),
  database: Config.option(Config.nonEmptyString("CLICKHOUSE_DATABASE")),
  table: Config.mapOrFail(Config.string("CLICKHOUSE_TABLE"), tableName).pipe(Config.withDefault("event_log")),
  /** The cluster whose servers have replicas of the table. */
  cluster: Config.option(Config.nonEmptyString("CLICKHOUSE_CLUSTER")),
  /** PEM file of the authority that signed the server's certificate, where it is not a public one. */
  caFile: Config.option(Config.nonEmptyString("CLICKHOUSE_CA_FILE")),
  /** How long one insert or query may take before it is in doubt. */
  requestTimeout: positiveDuration("CLICKHOUSE_REQUEST_TIMEOUT", "2 minutes"),
  /** Worth its CPU only across a network that is slower than gzip. */
  compression: Config.literal("none", "gzip")("CLICKHOUSE_COMPRESSION").pipe(Config.withDefault("none" as const))
})
export type ClickHouse = Config.Config.Success<typeof clickHouse>

/**
 * How events are sealed into batches, and how long one worker may keep a batch.
 *
 * @since 0.1.0
 * @category config
 */
export const outbox = Config.all({
  /** The most events in one batch. */
  batchEvents: atLeast(1, "OUTBOX_BATCH_EVENTS", 100_000),
  /** The most bytes of event contexts in one batch. ClickHouse holds a batch in memory, several times this size. */
  batchBytes: atLeast(1, "OUTBOX_BATCH_BYTES", 33_554_432).pipe(Config.map((n) => Bytes.make(n))),
  /** How long an event may wait for others before a batch that is not full is sealed. */
  linger: positiveDuration("OUTBOX_LINGER", "1 second"),
  /** How long a batch stays leased to a worker that died. Renewed while the worker lives. */
  lease: positiveDuration("OUTBOX_LEASE", "30 seconds")
})
export type Outbox = Config.Config.Success<typeof outbox>

/** Each holds a connection while it copies, and two more must be free to renew leases and to seal. */
const workers = Config.all({ workers: atLeast(1, "OUTBOX_WORKERS", 2), connections: maxConnections }).pipe(
  Config.mapOrFail(({ connections, workers }) =>
    workers <= connections - 2
      ? Either.right(workers)
      : Either.left(
          ConfigError.InvalidData(
            ["OUTBOX_WORKERS"],
            `${workers} workers need a DATABASE_MAX_CONNECTIONS of at least ${workers + 2}, which is ${connections}`
          )
        )
  )
)

/**
 * How a relay works.
 *
 * @since 0.1.0
 * @category config
 */
export const relay = Config.all({
  /** Batches that one relay delivers at the same time. */
  workers,
  /** The first wait after a failed attempt, doubled with each further one. */
  retryBase: positiveDuration("OUTBOX_RETRY_BASE", "200 millis"),
  /** The longest wait between two attempts. */
  retryCap: positiveDuration("OUTBOX_RETRY_CAP", "10 seconds"),
  /** How long batches in flight may take to finish once the relay is asked to stop. */
  shutdownGrace: positiveDuration("OUTBOX_SHUTDOWN_GRACE", "10 seconds"),
  /** How many refused events of one batch are isolated one by one. The rest of the batch is parked unexamined. */
  refusedEventsLimit: atLeast(1, "OUTBOX_REFUSED_EVENTS_LIMIT", 100),
  /** How long a batch may fail before that is an incident. */
  incidentAfter: positiveDuration("OUTBOX_INCIDENT_AFTER", "1 minute"),
  /** How long events stay in the outbox after they were published. Those that are not delivered stay longer. */
  eventRetention: positiveDuration("OUTBOX_EVENT_RETENTION", "1 day"),
  /** How long closed failures, closed incidents and the audit trail are kept. Open ones are never deleted. */
  failureRetention: positiveDuration("OUTBOX_FAILURE_RETENTION", "90 days")
})
export type Relay = Config.Config.Success<typeof relay>

const parsePort = (text: string): Either.Either<number | "off", ConfigError.ConfigError> => {
  if (text === "off") return Either.right(text)
  return /^\d+$/.test(text) && Number(text) < 65_536
    ? Either.right(Number(text))
    : Either.left(ConfigError.InvalidData([], 'must be "off" or a port from 0 to 65535'))
}

/**
 * The operator API that a relay serves.
 *
 * @since 0.1.0
 * @category config
 */
export const http = Config.all({
  /** `0` takes any port that is free, `off` serves nothing. */
  port: Config.string("OUTBOX_HTTP_PORT").pipe(Config.mapOrFail(parsePort), Config.withDefault(8686)),
  /** Where nobody has to say who they are it is a loopback address whatever this says. */
  host: Config.nonEmptyString("OUTBOX_HTTP_HOST").pipe(Config.withDefault("127.0.0.1")),
  /** One for all: an operator without a name. Without the white space around it, which a file's last line ends with and no header can carry. Blank is none. */
  token: Config.option(Config.string("OUTBOX_HTTP_TOKEN")).pipe(
    Config.map(
      flow(
        Option.map((token) => token.trim()),
        Option.filter((token) => token !== ""),
        Option.map((token) => Redacted.make(token))
      )
    )
  ),
  /** Tokens with a name and a role each, by their hashes. */
  tokens: Callers.tokens,
  /** The proxy whose word is taken for who somebody is. */
  proxy: Callers.proxy
})
export type Http = Config.Config.Success<typeof http>

/**
 * The environment that events carry unless their publisher says otherwise.
 *
 * @since 0.1.0
 * @category config
 */
export const environment = Config.nonEmptyString("OUTBOX_ENVIRONMENT").pipe(Config.withDefault("production"))

/**
 * What is logged, and how: JSON unless standard error is a terminal.
 *
 * @since 0.1.0
 * @category config
 */
export const log = Config.all({
  level: Config.logLevel("LOG_LEVEL").pipe(Config.withDefault(LogLevel.Info)),
  format: Config.option(Config.literal("json", "pretty")("LOG_FORMAT"))
})
export type Log = Config.Config.Success<typeof log>

/**
 * The variables that are wrong or missing, one a line.
 *
 * @since 0.1.0
 * @category errors
 */
export const explain = (error: ConfigError.ConfigError): string => Arr.dedupe(problems(error)).join("\n")

const problems = (error: ConfigError.ConfigError): ReadonlyArray<string> =>
  ConfigError.reduceWithContext<void, ReadonlyArray<string>>(error, undefined, {
    andCase: (_, left, right) => [...left, ...right],
    orCase: (_, left, right) => [...left, ...right],
    invalidDataCase: (_, path, message) => [`${path.join("_")}: ${message}`],
    missingDataCase: (_, path) => [`${path.join("_")} is not set`],
    sourceUnavailableCase: (_, path, message) => [`${path.join("_")}: ${message}`],
    unsupportedCase: (_, path, message) => [`${path.join("_")}: ${message}`]
  })
