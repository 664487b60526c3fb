/** What is served: probes from the start, the API once its services are there, and the console. */
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as HttpApiSwagger from "@effect/platform/HttpApiSwagger"
import type * as HttpApp from "@effect/platform/HttpApp"
import * as HttpMiddleware from "@effect/platform/HttpMiddleware"
import type { HttpRouter } from "@effect/platform/HttpRouter"
import * as HttpServer from "@effect/platform/HttpServer"
import type { ServeError } from "@effect/platform/HttpServerError"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as Schedule from "effect/Schedule"
import type { BatchFailures } from "../BatchFailures.ts"
import type * as Config from "../Config.ts"
import type { EventLog } from "../EventLog.ts"
import { reasonOf } from "../internal/text.ts"
import type { Operations } from "../Operations.ts"
import { type Health, Relay } from "../Relay.ts"
import * as Access from "./Access.ts"
import { Api } from "./Api.ts"
import * as Body from "./Body.ts"
import * as Console from "./Console.ts"
import * as handlers from "./handlers.ts"
import * as NodeServer from "./NodeServer.ts"
import * as Probes from "./Probes.ts"
import type { Problem } from "./Problem.ts"
import * as Problems from "./Problems.ts"

/** What it is a door to. */
export type Services = BatchFailures | EventLog | Operations | Relay

type Available = Deferred.Deferred<Context.Context<Services>>

interface Options extends Config.Http {
  readonly port: number
  /** Requests that use Postgres at the same time. */
  readonly concurrency: number
  /** The folder of the console; the package's own unless set. */
  readonly console: string | undefined
  readonly available: Available
  /** Told where it listens. */
  readonly url: Deferred.Deferred<string>
}

const RETRY = "5 seconds"

/** Another relay on this host may have the port. Once that ends, this one takes over. */
export const serve = (options: Options): Effect.Effect<never, ServeError> =>
  Effect.gen(function* () {
    const host = yield* safeHost(options)
    const attempt = serveOnce({ ...options, host })
    return yield* attempt.pipe(
      Effect.tapError(({ cause }) =>
        Effect.logWarning(
          `The operator API cannot listen on ${host}, port ${options.port}, and tries again every ${RETRY}: ${reasonOf(cause)}. OUTBOX_HTTP_PORT sets another port, or "off"`
        )
      ),
      Effect.orElse(() => attempt.pipe(Effect.delay(RETRY), Effect.retry(Schedule.forever)))
    )
  })

const LOOPBACK = "127.0.0.1"

const safeHost = ({ host, token }: Config.Http): Effect.Effect<string> =>
  Option.isSome(token) || Access.isLoopback(host)
    ? Effect.succeed(host)
    : Effect.as(
        Effect.logWarning(
          `The operator API listens on ${LOOPBACK} and not on ${host}, because whoever reaches it could change events: set OUTBOX_HTTP_TOKEN to let others in`
        ),
        LOOPBACK
      )

const serveOnce = (options: Options): Effect.Effect<never, ServeError> =>
  Effect.gen(function* () {
    const { available, url } = options
    const open = Option.isNone(options.token)
    const api = yield* Ref.make<App>(Effect.fail(Problems.starting))
    const probes = yield* Probes.router(health(available))
    const app = Effect.catchTag(probes, "RouteNotFound", () => Effect.flatten(Ref.get(api)))
    const console = yield* Console.make(options.console ?? Console.FOLDER)
    yield* HttpServer.serveEffect(withConsole(console, guard(open, app))).pipe(
      HttpMiddleware.withTracerDisabledWhenEffect(({ url }) => !isApi(url))
    )
    const built = yield* Deferred.await(available).pipe(
      Effect.flatMap((services) => Effect.provide(buildApi(options), services)),
      Effect.flatMap((built) => Ref.set(api, built)),
      Effect.forkScoped
    )
    // Callers that wait for the URL find the API there, unless it still waits for Postgres.
    yield* Effect.timeoutOption(Fiber.join(built), "500 millis")
    yield* announce(open, url)
    return yield* Effect.zipRight(Fiber.join(built), Effect.never)
  }).pipe(Effect.provide(Layer.merge(NodeServer.layer(options), NodeHttpServer.layerContext)), Effect.scoped)

const PROBES: ReadonlySet<string> = new Set(Probes.PATHS)

const pathOf = (url: string): string => url.replace(/\?.*/s, "")

const isApi = (url: string): boolean => /^\/(?:api|docs|openapi\.json)(?:\/|$)/.test(pathOf(url))

/** Whatever is neither the API's nor a probe's may be the console's. */
const withConsole = <R>(console: Console.Console, app: HttpApp.Default<never, R>) =>
  Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ url }) =>
    isApi(url) || PROBES.has(pathOf(url))
      ? app
      : Effect.flatMap(console, Option.match({ onNone: () => app, onSome: Effect.succeed }))
  )

type App = HttpApp.Default<Problem, HttpRouter.DefaultServices>

const health = (available: Available): Effect.Effect<Option.Option<Health>> =>
  Effect.flatMap(
    Deferred.poll(available),
    Effect.transposeMapOption((services) => Effect.flatMap(services, (services) => Context.get(services, Relay).health))
  )

/** Built apart from the program's layers: with an HttpApi of the program's own it would share the router. */
const buildApi = ({ concurrency, token }: Options) =>
  Layer.mergeAll(
    HttpApiSwagger.layer(),
    HttpApiBuilder.middlewareOpenApi(),
    // HttpApi would make responses of problems too, but without their headers.
    HttpApiBuilder.middleware((app: HttpApp.Default) =>
      Problems.answer(Effect.updateService(app, HttpServerRequest.HttpServerRequest, Body.asJson))
    )
  ).pipe(
    Layer.provideMerge(HttpApiBuilder.api(Api)),
    Layer.provide(handlers.layer({ concurrency, tokenRequired: Option.isSome(token) })),
    Layer.provide(Access.layer(token)),
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
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff"
}

const guard = <R>(open: boolean, app: HttpApp.Default<Problem, R>): HttpApp.Default<never, R> =>
  (open ? Effect.zipRight(Access.fromThisMachine, app) : app).pipe(
    Problems.answer,
    Effect.map(HttpServerResponse.setHeaders(HEADERS))
  )
