/**
 * The operator API: what {@link BatchFailures} and {@link Operations} can do, over HTTP; and beside it `/healthz`,
 * `/readyz`, `/version` and `/metrics`, which are open to all who reach the server.
 *
 * A door and nothing else: every rule is in the services, so the command line can do no more and no less. Every error is
 * `application/problem+json` with a `detail` that says what to do. Events keep every digit, in both directions. A change
 * is safe to repeat: what was published or closed meanwhile is a conflict, never done twice.
 *
 * It is a guest in the program that delivers. Its requests use as many connections to Postgres as they are given and no
 * more, so that no lease waits for them where these are to spare. Its clients cannot hold a connection for ever; what they
 * can make it keep in memory is two large bodies and, for each of 100 connections, an answer of some 10 MiB at the most.
 * When its port is taken it says so and tries again, and whatever becomes of it, the relay goes on. Without a token it
 * listens on loopback only, and answers nothing that a browser was led to ask.
 *
 * `/docs` explains it, `/openapi.json` describes it for programs, and {@link Api} makes a client of it in TypeScript.
 *
 * @since 0.1.0
 */
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as HttpApiSwagger from "@effect/platform/HttpApiSwagger"
import type * as HttpApp from "@effect/platform/HttpApp"
import * as HttpMiddleware from "@effect/platform/HttpMiddleware"
import type { HttpRouter } from "@effect/platform/HttpRouter"
import * as HttpServer from "@effect/platform/HttpServer"
import type { ServeError } from "@effect/platform/HttpServerError"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Cause from "effect/Cause"
import type * as ConfigError from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { BatchFailures } from "./BatchFailures.ts"
import * as Config from "./Config.ts"
import type { Operations } from "./Operations.ts"
import { withProblems } from "./Operator/Answer.ts"
import { Api } from "./Operator/Api.ts"
import * as Authorization from "./Operator/Authorization.ts"
import * as Http from "./Operator/Http.ts"
import * as Probes from "./Operator/Probes.ts"
import * as Problem from "./Operator/Problem.ts"
import * as Server from "./Operator/Server.ts"
import { reasonOf } from "./Reason.ts"
import { type Health, Relay } from "./Relay.ts"

export { Api } from "./Operator/Api.ts"
export { Problem } from "./Operator/Problem.ts"

/**
 * @since 0.1.0
 * @category tags
 */
export class Operator extends Context.Tag("clickhouse-outbox/Operator")<
  Operator,
  {
    /** Where it listens, such as `http://127.0.0.1:8686`. Waits until it does; none if it is configured not to. */
    readonly url: Effect.Effect<Option.Option<string>>
  }
>() {}

type Services = BatchFailures | Operations | Relay

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
): Effect.Effect<typeof Operator.Service, never, Services | Scope.Scope> =>
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
  options: Options = {}
): Effect.Effect<typeof Operator.Service, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { port } = config
    if (port === "off") return { url: Effect.succeedNone }
    const url = yield* Deferred.make<string>()
    const available = yield* Deferred.make<Context.Context<Services>>()
    yield* Effect.forkScoped(Effect.intoDeferred(services, available))
    yield* listen({ ...config, port }, available, options, url).pipe(
      Effect.onError((cause) =>
        Cause.isInterruptedOnly(cause) ? Effect.void : Effect.logError("The operator API has ended", cause)
      ),
      Effect.interruptible,
      Effect.forkScoped
    )
    return { url: Effect.asSome(Deferred.await(url)) }
  })

type Available = Deferred.Deferred<Context.Context<Services>>

type Listening = Config.Http & { readonly port: number }

const RETRY = "5 seconds"

/** Another relay on this host may have the port. If it ends, this one takes over. */
const listen = (config: Listening, available: Available, options: Options, url: Deferred.Deferred<string>) =>
  Effect.gen(function* () {
    const host = yield* safeHost(config)
    const attempt = serve({ ...config, host }, available, options, url)
    return yield* attempt.pipe(
      Effect.tapError(({ cause }) =>
        Effect.logWarning(
          `The operator API cannot listen on ${host}, port ${config.port}, and tries again every ${RETRY}: ${reasonOf(cause)}. OUTBOX_HTTP_PORT sets another port, or "off"`
        )
      ),
      Effect.orElse(() => attempt.pipe(Effect.delay(RETRY), Effect.retry(Schedule.forever)))
    )
  })

const LOOPBACK = "127.0.0.1"

const safeHost = ({ host, token }: Config.Http): Effect.Effect<string> =>
  Option.isSome(token) || Authorization.isLoopback(host)
    ? Effect.succeed(host)
    : Effect.as(
        Effect.logWarning(
          `The operator API listens on ${LOOPBACK} and not on ${host}, because whoever reaches it could change events: set OUTBOX_HTTP_TOKEN to let others in`
        ),
        LOOPBACK
      )

const serve = (
  config: Listening,
  available: Available,
  options: Options,
  url: Deferred.Deferred<string>
): Effect.Effect<never, ServeError> =>
  Effect.gen(function* () {
    const open = Option.isNone(config.token)
    const api = yield* Ref.make<App>(starting)
    const probes = yield* Probes.router(health(available))
    const app = Effect.catchTag(probes, "RouteNotFound", () => Effect.flatten(Ref.get(api)))
    yield* HttpServer.serveEffect(guard(open, app)).pipe(
      HttpMiddleware.withTracerDisabledWhenEffect(({ url }) => PROBES.has(url))
    )
    yield* announce(open, url)
    const services = yield* Deferred.await(available)
    yield* Effect.flatMap(Effect.provide(buildApi(config, options), services), (built) => Ref.set(api, built))
    return yield* Effect.never
  }).pipe(Effect.provide(Layer.merge(Server.layer(config), NodeHttpServer.layerContext)), Effect.scoped)

const PROBES: ReadonlySet<string> = new Set(Probes.PATHS)

type App = HttpApp.Default<Problem.Problem, HttpRouter.DefaultServices>

const starting: App = Problem.fail(
  "postgres-unavailable",
  "The relay still waits for its outbox, and its log says why. Trying again is safe"
)

const health = (available: Available): Effect.Effect<Option.Option<Health>> =>
  Effect.flatMap(
    Deferred.poll(available),
    Effect.transposeMapOption((services) => Effect.flatMap(services, (services) => Context.get(services, Relay).health))
  )

/** Apart from the program's layers: an HttpApi of its own would share the router, and each serve the other's. */
const buildApi = ({ token }: Config.Http, { concurrency = 1 }: Options) =>
  Layer.mergeAll(HttpApiSwagger.layer(), HttpApiBuilder.middlewareOpenApi()).pipe(
    Layer.provideMerge(HttpApiBuilder.api(Api)),
    Layer.provide(Http.layer(concurrency)),
    Layer.provide(Authorization.layer(token)),
    Layer.provideMerge(Layer.merge(HttpApiBuilder.Router.Live, HttpApiBuilder.Middleware.layer)),
    Layer.build,
    Effect.flatMap((context) => Effect.provide(HttpApiBuilder.httpApp, context))
  )

const announce = (open: boolean, url: Deferred.Deferred<string>) =>
  HttpServer.addressWith((address) => {
    const formatted = format(address)
    return Effect.zipRight(
      Effect.logInfo(`The operator API listens on ${formatted}${open ? ", and asks for no token" : ""}`),
      Deferred.succeed(url, formatted)
    )
  })

/** As a URL has it: `HttpServer.formatAddress` writes IPv6 without brackets. */
const format = (address: HttpServer.Address): string =>
  address._tag === "TcpAddress" && address.hostname.includes(":")
    ? `http://[${address.hostname}]:${address.port}`
    : HttpServer.formatAddress(address)

/** Nothing is loaded from elsewhere, put into a frame, or kept by anybody in between. */
const HEADERS = {
  "cache-control": "no-store",
  "content-security-policy":
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
  "x-content-type-options": "nosniff"
}

const guard = <R>(open: boolean, app: HttpApp.Default<Problem.Problem, R>): HttpApp.Default<never, R> =>
  (open ? Effect.zipRight(Authorization.fromThisMachine, app) : app).pipe(
    withProblems,
    Effect.map(HttpServerResponse.setHeaders(HEADERS))
  )

/**
 * Serves beside whatever else the program does. When the port is taken it tries again until it is free, so it never
 * fails.
 *
 * @example
 * ```ts
 * import { Layer } from "effect"
 * import { BatchFailures, Event, Operations, Operator, Postgres, Relay } from "clickhouse-outbox"
 * import { UserCreated } from "./events.ts"
 *
 * const OutboxLive = Operator.layerConfig.pipe(
 *   Layer.provideMerge(Relay.layerConfig),
 *   Layer.provide([BatchFailures.layer, Operations.layer]),
 *   Layer.provide(Layer.succeed(Event.Definitions, [UserCreated])),
 *   Layer.provideMerge(Postgres.layerConfig)
 * )
 * ```
 * @since 0.1.0
 * @category layers
 */
export const layer = (config: Config.Http, options?: Options): Layer.Layer<Operator, never, Services> =>
  Layer.scoped(Operator, make(config, options))

/**
 * {@link layer} from the environment: `OUTBOX_HTTP_PORT`, `OUTBOX_HTTP_HOST`, `OUTBOX_HTTP_TOKEN`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig: Layer.Layer<Operator, ConfigError.ConfigError, Services> = Layer.unwrapEffect(
  Effect.map(Config.http, (config) => layer(config))
)
