/**
 * The operator API: what {@link BatchFailures}, {@link Operations} and {@link EventLog} can do, over HTTP; and beside it
 * `/healthz`, `/readyz`, `/version` and `/metrics`, which are open to all who reach the server.
 *
 * Every rule is in the services, so the command line can do no more and no less. Every error is
 * `application/problem+json` with a `detail` that says what to do. Events keep every digit, in both directions. A change
 * is safe to repeat: what was published or closed meanwhile is a conflict, and nothing is done twice.
 *
 * It is a guest in the program that delivers. Its requests use as many connections to Postgres as they are given and no
 * more, so leases never wait for it where there are connections to spare. Clients cannot hold a connection for ever, one
 * request of each is handled at a time, and too many that wait for a database are told to come back. What they can make it
 * keep in memory is two large bodies and, for each of 100 connections, an answer of some 10 MiB. When its port is taken it
 * says so and tries again, and whatever becomes of it, the relay goes on. Without a token it listens on loopback only, and
 * answers nothing that a browser was led to ask.
 *
 * `/` is the console, for people. `/docs` explains the API, `/openapi.json` describes it for programs, and {@link Api}
 * makes a client of it in TypeScript.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import type * as ConfigError from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import type * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Config from "./Config.ts"
import * as Metrics from "./Metrics.ts"
import type { Services } from "./OperatorServer/serve.ts"

export { Api, Problem } from "./OperatorServer/Api.ts"
export type { Services } from "./OperatorServer/serve.ts"

/**
 * @since 0.1.0
 * @category tags
 */
export class OperatorServer extends Context.Tag("clickhouse-outbox/OperatorServer")<
  OperatorServer,
  {
    /** Where it listens, such as `http://127.0.0.1:8686`. Waits until it does; none if it is configured not to. */
    readonly url: Effect.Effect<Option.Option<string>>
  }
>() {}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /**
   * Requests that use Postgres at the same time; 1 unless set. Each takes a connection: beside a relay on the same pool,
   * leave one for each of its workers and two more.
   */
  readonly concurrency?: number
  /** The folder of the console that is served at `/`; the package's own unless set. */
  readonly console?: string
}

/**
 * Serves in the background, as long as the scope is open. Corrections are held against `Event.Definitions`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  config: Config.Http,
  options?: Options
): Effect.Effect<typeof OperatorServer.Service, never, Services | Scope.Scope> =>
  Effect.flatMap(Effect.context<Services>(), (services) => makeEarly(config, Effect.succeed(services), options))

/**
 * {@link make} for services that are still to come: until then the server says that it starts. What builds them must not
 * fail.
 *
 * @internal
 */
export const makeEarly = (
  config: Config.Http,
  services: Effect.Effect<Context.Context<Services>, never, Scope.Scope>,
  { concurrency = 1, console }: Options = {}
): Effect.Effect<typeof OperatorServer.Service, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { port } = config
    if (port === "off") return { url: Effect.succeedNone }
    yield* Effect.zipRight(Metrics.registerRelay, Metric.set(Metrics.relayReady, 0))
    const url = yield* Deferred.make<string>()
    const available = yield* Deferred.make<Context.Context<Services>>()
    yield* Effect.forkScoped(Effect.intoDeferred(services, available))
    // Its libraries take longer to load than the rest of this package, so programs that serve nothing do not load them.
    const { serve } = yield* Effect.promise(() => import("./OperatorServer/serve.ts"))
    yield* serve({ ...config, port, concurrency, console, available, url }).pipe(
      Effect.onError((cause) =>
        Cause.isInterruptedOnly(cause) ? Effect.void : Effect.logError("The operator API has ended", cause)
      ),
      Effect.interruptible,
      Effect.forkScoped
    )
    return { url: Effect.asSome(Deferred.await(url)) }
  })

/**
 * Serves beside whatever else the program does. When the port is taken it tries again until it is free, so it never
 * fails.
 *
 * @example
 * ```ts
 * import { Layer, Schema } from "effect"
 * import { BatchFailures, ClickHouse, Event, EventLog, Operations, OperatorServer, Postgres, Relay } from "clickhouse-outbox"
 *
 * const UserCreated = Event.define({ eventType: "user_created", eventContext: Schema.Struct({ userId: Schema.Number }) })
 *
 * const OutboxLive = OperatorServer.layerConfig.pipe(
 *   Layer.provideMerge(Relay.layerConfig),
 *   Layer.provide([BatchFailures.layer, Operations.layer, EventLog.layerConfig]),
 *   Layer.provide(Layer.succeed(Event.Definitions, [UserCreated])),
 *   Layer.provideMerge(Layer.merge(Postgres.layerConfig, ClickHouse.layerConfig))
 * )
 * ```
 * @since 0.1.0
 * @category layers
 */
export const layer = (config: Config.Http, options?: Options): Layer.Layer<OperatorServer, never, Services> =>
  Layer.scoped(OperatorServer, make(config, options))

/**
 * {@link layer} from the environment: `OUTBOX_HTTP_PORT`, `OUTBOX_HTTP_HOST`, `OUTBOX_HTTP_TOKEN`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig: Layer.Layer<OperatorServer, ConfigError.ConfigError, Services> = Layer.unwrapEffect(
  Effect.map(Config.http, (config) => layer(config))
)
