/** What is served: probes from the start, the API once its services are there, and the console. */
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as HttpApiSwagger from "@effect/platform/HttpApiSwagger"
import type * as HttpApp from "@effect/platform/HttpApp"
import * as HttpMiddleware from "@effect/platform/HttpMiddleware"
import * as HttpRouter from "@effect/platform/HttpRouter"
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
import { isLoopback } from "../internal/plaintext.ts"
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

const safeHost = (config: Config.Http): Effect.Effect<string> => {
  const { host } = config
  return !Access.isOpen(config) || isLoopback(host)
    ? Effect.succeed(host)
    : Effect.as(
        Effect.logWarning(
          `The operator API listens on ${LOOPBACK} and not on ${host}, because whoever reaches it could change events: set OUTBOX_HTTP_TOKENS or OUTBOX_HTTP_TOKEN to let others in`
        ),
        LOOPBACK
      )
}

const serveOnce = (options: Options): Effect.Effect<never, ServeError> =>
  Effect.gen(function* () {
    const { available, url } = options
    const open = Access.isOpen(options)
    const api = yield* Ref.make<App>(Effect.fail(Problems.starting))
    const probes = yield* Probes.make(health(available))
    const console = yield* Console.make(options.console ?? Console.FOLDER)
    const handler = yield* NodeHttpServer.makeHandler(
      route({ api: Effect.flatten(Ref.get(api)), console, open, probes })
    ).pipe(HttpMiddleware.withTracerDisabledWhenEffect(({ url }) => !isApi(pathOf(url))))
    const address = yield* NodeServer.listen({ ...options, handler })
    const built = yield* Deferred.await(available).pipe(
      Effect.flatMap((services) => Effect.provide(buildApi(options), services)),
      Effect.flatMap((built) => Ref.set(api, built)),
      Effect.forkScoped
    )
    // Callers that wait for the URL find the API there, unless it still waits for Postgres.
    yield* Effect.timeoutOption(Fiber.join(built), "500 millis")
    yield* Effect.logInfo(`The operator API listens on ${address}${open ? ", and asks for no token" : ""}`)
    yield* Deferred.succeed(url, address)
    return yield* Effect.zipRight(Fiber.join(built), Effect.never)
  }).pipe(Effect.provide(NodeHttpServer.layerContext), Effect.scoped)

// Who answers what.

interface Parts {
  readonly api: App
  readonly console: Console.Console
  readonly probes: Effect.Effect.Success<ReturnType<typeof Probes.make>>
  /** Whether nobody is asked who they are. */
  readonly open: boolean
}

/** Probes are answered before anything that may have to wait. */
const route = ({ api, console, open, probes }: Parts): HttpApp.Default<never, HttpRouter.HttpRouter.DefaultServices> =>
  Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => {
    const path = pathOf(request.url)
    if (!CANONICAL.test(path)) return guard({ app: Effect.fail(Problems.noSuchEndpoint(request)), open, path })
    if (Probes.isProbe(path) && isRead(request)) return guard({ app: probes[path], open, path })
    const other = guard({ app: api, open, path })
    return isConsole(path)
      ? Effect.flatMap(console(path), Option.match({ onNone: () => other, onSome: Effect.succeed }))
      : other
  })

const isRead = ({ method }: HttpServerRequest.HttpServerRequest) => method === "GET" || method === "HEAD"

const pathOf = (url: string): string => url.replace(/\?.*/s, "")

/**
 * The one way to write a path. Nothing that is served needs another character, so nothing is decoded, tidied up or folded
 * here: a path that a proxy's rule for `/api` does not match does not reach the API.
 */
const CANONICAL = /^(?:\/|(?:\/(?!\.\.?(?:\/|$))[\w.~-]+)+)$/

const DOCS = "/docs"

const isApi = (path: string): boolean => path === DOCS || /^\/(?:api|openapi\.json)(?:\/|$)/.test(path)

const NOT_CONSOLE: ReadonlySet<string> = new Set([...Probes.PATHS, "/api", DOCS, "/openapi.json"])

/** The console has whatever does not begin with a name of the API's or a probe's, in whichever case. */
const isConsole = (path: string): boolean => !NOT_CONSOLE.has(path.toLowerCase().replace(/(?<=.)\/.*/, ""))

/** Nothing is put into a frame, or kept by anybody in between. */
const HEADERS = {
  "cache-control": "no-store",
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff"
}

/** Swagger's page is one document with its script and its styles in it, which asks for nothing from elsewhere. */
const DOCS_HEADERS = {
  ...HEADERS,
  "content-security-policy":
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
}

interface Guarded {
  readonly app: App
  readonly open: boolean
  readonly path: string
}

const guard = ({ app, open, path }: Guarded): HttpApp.Default<never, HttpRouter.HttpRouter.DefaultServices> =>
  (open ? Effect.zipRight(Access.fromThisMachine, app) : app).pipe(
    Problems.answer,
    Effect.map(HttpServerResponse.setHeaders(path === DOCS ? DOCS_HEADERS : HEADERS))
  )

type App = HttpApp.Default<Problem, HttpRouter.HttpRouter.DefaultServices>

const health = (available: Available): Effect.Effect<Option.Option<Health>> =>
  Effect.flatMap(
    Deferred.poll(available),
    Effect.transposeMapOption((services) => Effect.flatMap(services, (services) => Context.get(services, Relay).health))
  )

/** Built apart from the program's layers: with an HttpApi of the program's own it would share the router. */
const buildApi = (options: Options) =>
  Layer.mergeAll(
    HttpApiSwagger.layer(),
    HttpApiBuilder.middlewareOpenApi(),
    // HttpApi would make responses of problems too, but without their headers.
    HttpApiBuilder.middleware((app: HttpApp.Default) =>
      Problems.answer(Effect.updateService(app, HttpServerRequest.HttpServerRequest, Body.asJson))
    )
  ).pipe(
    Layer.provideMerge(HttpApiBuilder.api(Api)),
    Layer.provide(handlers.layer({ concurrency: options.concurrency, tokenRequired: !Access.isOpen(options) })),
    Layer.provide(Access.layer(options)),
    Layer.provideMerge(Layer.merge(HttpApiBuilder.Router.Live, HttpApiBuilder.Middleware.layer)),
    Layer.build,
    Effect.flatMap((context) => Effect.provide(HttpApiBuilder.httpApp, context)),
    // The router's own answers /API/status and /api//status/ too.
    HttpRouter.withRouterConfig({ caseSensitive: true, ignoreTrailingSlash: false, ignoreDuplicateSlashes: false })
  )
