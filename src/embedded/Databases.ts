/**
 * A Postgres and a ClickHouse to work with on this machine, from the first of these places that has both:
 *
 * 1. the environment: `DATABASE_URL` and `CLICKHOUSE_URL`, if both are set;
 * 2. Docker, if its engine answers: a container each, through `testcontainers`, of the images that
 *    `TEST_POSTGRES_IMAGE` and `TEST_CLICKHOUSE_IMAGE` name; where one of them is set, it is Docker or nothing;
 * 3. the npm packages, as servers in child processes: `EmbeddedPostgres` and `EmbeddedClickHouse`.
 *
 * What is started here is empty, is stopped when the scope closes, and leaves nothing behind. What comes from the
 * environment is used as it is.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import type * as ConfigError from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { GenericContainer } from "testcontainers"
import * as EmbeddedClickHouse from "./EmbeddedClickHouse.ts"
import * as EmbeddedPostgres from "./EmbeddedPostgres.ts"
import type { EmbeddedServerError } from "./EmbeddedServer.ts"

/**
 * Docker cannot be used: there is none, or a container did not start.
 *
 * @since 0.1.0
 * @category errors
 */
export class DockerError extends Schema.TaggedError<DockerError>()("DockerError", {
  what: Schema.String,
  cause: Schema.Defect
}) {
  override get message() {
    return `${this.what}: ${this.cause}`
  }
}

/**
 * Where the databases are. A URL that is given may carry a password.
 *
 * @since 0.1.0
 * @category tags
 */
export class Databases extends Context.Tag("clickhouse-outbox/Databases")<
  Databases,
  {
    readonly provider: "environment" | "docker" | "embedded"
    /** `postgres://…`, of a superuser unless it comes from the environment. */
    readonly postgresUrl: Redacted.Redacted
    /** `http://…` or `https://…`, of a user with all rights unless it comes from the environment. */
    readonly clickhouseUrl: Redacted.Redacted
  }
>() {}

type Service = Context.Tag.Service<Databases>

/**
 * `DATABASE_URL` and `CLICKHOUSE_URL`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const environment: Config.Config<Service> = Config.all({
  provider: Config.succeed("environment" as const),
  postgresUrl: Config.redacted("DATABASE_URL"),
  clickhouseUrl: Config.redacted("CLICKHOUSE_URL")
})

const images = Config.all({
  postgres: Config.option(Config.nonEmptyString("TEST_POSTGRES_IMAGE")),
  clickhouse: Config.option(Config.nonEmptyString("TEST_CLICKHOUSE_IMAGE"))
})

/**
 * A container each. Docker removes them also when this process is killed.
 *
 * @since 0.1.0
 * @category constructors
 */
export const docker: Effect.Effect<Service, ConfigError.ConfigError | DockerError, Scope.Scope> = Effect.gen(
  function* () {
    const image = yield* images
    const { GenericContainer, Wait } = yield* testcontainers
    const [postgres, clickhouse] = yield* Effect.all(
      [
        start(
          new GenericContainer(Option.getOrElse(image.postgres, () => "postgres:18"))
            .withEnvironment({ POSTGRES_PASSWORD: "postgres" })
            .withCommand(["postgres", "-c", "max_connections=200"])
            .withExposedPorts(5432)
            // The first time it is ready only to run its own set-up.
            .withWaitStrategy(
              Wait.forAll([Wait.forLogMessage(/ready to accept connections/, 2), Wait.forListeningPorts()])
            )
        ),
        start(
          new GenericContainer(Option.getOrElse(image.clickhouse, () => "clickhouse/clickhouse-server:26.7"))
            // Otherwise user `default`, having no password, may not come from outside the container.
            .withEnvironment({ CLICKHOUSE_SKIP_USER_SETUP: "1" })
            .withUlimits({ nofile: { soft: 262_144, hard: 262_144 } })
            .withExposedPorts(8123)
            .withWaitStrategy(Wait.forHttp("/ping", 8123))
        )
      ],
      { concurrency: "unbounded" }
    )
    return {
      provider: "docker",
      postgresUrl: Redacted.make(
        `postgres://postgres:postgres@${postgres.getHost()}:${postgres.getMappedPort(5432)}/postgres`
      ),
      clickhouseUrl: Redacted.make(`http://${clickhouse.getHost()}:${clickhouse.getMappedPort(8123)}`)
    }
  }
)

const testcontainers = Effect.tryPromise({
  try: () => import("testcontainers"),
  catch: (cause) =>
    new DockerError({
      what: "the npm package testcontainers cannot be loaded; run `npm install --save-dev testcontainers`",
      cause
    })
})

/** An engine that is there but stuck counts as none. */
const dockerAnswers: Effect.Effect<boolean> = testcontainers.pipe(
  Effect.flatMap(({ getContainerRuntimeClient }) => Effect.tryPromise(() => getContainerRuntimeClient())),
  Effect.timeout("5 seconds"),
  Effect.isSuccess
)

const start = (container: GenericContainer) =>
  Effect.acquireRelease(
    Effect.tryPromise({
      try: () => container.start(),
      catch: (cause) => new DockerError({ what: "a container did not start", cause })
    }),
    (started) => Effect.ignore(Effect.tryPromise(() => started.stop()))
  )

/**
 * A server each, with a temporary data directory.
 *
 * @since 0.1.0
 * @category constructors
 */
export const embedded: Effect.Effect<Service, EmbeddedServerError, Scope.Scope> = Effect.map(
  Effect.all([EmbeddedPostgres.make(), EmbeddedClickHouse.make()], { concurrency: "unbounded" }),
  ([postgres, clickhouse]) => ({
    provider: "embedded",
    postgresUrl: Redacted.make(postgres.url),
    clickhouseUrl: Redacted.make(clickhouse.url)
  })
)

/**
 * The first provider that has both. A Docker that answers but cannot start them is passed over with a warning.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<Service, ConfigError.ConfigError | DockerError | EmbeddedServerError, Scope.Scope> =
  Effect.gen(function* () {
    const given = yield* Config.option(environment)
    if (Option.isSome(given)) return given.value
    const { clickhouse, postgres } = yield* images
    if (Option.isSome(postgres) || Option.isSome(clickhouse)) return yield* docker
    if (!(yield* dockerAnswers)) return yield* embedded
    return yield* docker.pipe(
      Effect.catchTag("DockerError", (error) =>
        Effect.zipRight(Effect.logWarning(`Docker is passed over: ${error.message}`), embedded)
      )
    )
  })

/**
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<Databases, ConfigError.ConfigError | DockerError | EmbeddedServerError> = Layer.scoped(
  Databases,
  make
)
