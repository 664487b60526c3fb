/**
 * Who is let in, as whom, and what they may do.
 *
 * By a token of their own, or one for all; or because a proxy that had them sign in says who they are. Where none of
 * these is configured: whoever is on this machine. Then a browser on this machine must not be led here by somebody else's
 * page. A page whose name was made to resolve to a loopback address (DNS rebinding) is known by `Host`, one that posts
 * across sites by `Origin`, one that merely loads something, such as an image, by `Sec-Fetch-Site`.
 *
 * A proxy recognizes people by a cookie, which their browser sends along with what another site's page posts. So a change
 * that comes through it must come from the console's own page, or from no browser. A token no browser adds by itself.
 */
import { createHash, timingSafeEqual } from "node:crypto"
import { BlockList, isIPv6 } from "node:net"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Config from "../Config.ts"
import { CallerName, type Role } from "../internal/callers.ts"
import { isLoopback } from "../internal/plaintext.ts"
import { Authorization, type Caller, DEFAULT_ACTOR } from "./Api/fields.ts"
import type { Problem } from "./Problem.ts"
import * as Problems from "./Problems.ts"

type Request = HttpServerRequest.HttpServerRequest
type Identity = typeof Caller.Service

/** Whether nobody is asked who they are. */
export const isOpen = ({ proxy, token, tokens }: Config.Http): boolean =>
  Option.isNone(proxy) && Option.isNone(token) && tokens.length === 0

/** HttpApi hands over what follows the first seven characters, whatever those are. So the header is read here. */
export const layer = (config: Config.Http): Layer.Layer<Authorization> => {
  const byProxy = Option.match(config.proxy, { onNone: () => () => Effect.succeedNone, onSome: makeByProxy })
  const byToken = makeByToken(config)
  const identify = (request: Request): Effect.Effect<Identity, Problem> =>
    Effect.flatMap(byProxy(request), (known) =>
      Option.orElse(known, () => byToken(request)).pipe(
        Option.match({ onNone: () => Effect.fail(Problems.unauthorized), onSome: Effect.succeed })
      )
    )
  return Layer.succeed(
    Authorization,
    Authorization.of({
      token: () =>
        Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) =>
          Effect.filterOrFail(
            identify(request),
            ({ role }) => isRead(request) || role === "operator",
            () => Problems.readOnly
          )
        )
    })
  )
}

const READS: ReadonlySet<string> = new Set(["GET", "HEAD"])

/** No endpoint changes anything by these methods, and a new one that does not use them is for operators. */
const isRead = ({ method }: Request): boolean => READS.has(method)

// By a token

/**
 * Of one length whatever was sent, so that comparing always takes the same time. Once is enough: a token is 256 random
 * bits, which nobody finds by trying, however fast a trial is. A slow hash is for passwords, and here would let strangers
 * use the CPU that delivers.
 */
const digest = (secret: string): Buffer => createHash("sha256").update(secret).digest()

/** One space: https://www.rfc-editor.org/rfc/rfc6750#section-2.1. */
const BEARER = /^Bearer (.+)$/i

const makeByToken = (config: Config.Http) => {
  const isNamed = config.tokens.length > 0 || Option.isSome(config.proxy)
  const shared: Identity = { name: isNamed ? Option.some(DEFAULT_ACTOR) : Option.none(), role: "operator" }
  const known: ReadonlyArray<readonly [Buffer, Identity]> = [
    ...Option.toArray(config.token).map((token) => [digest(Redacted.value(token)), shared] as const),
    ...config.tokens.map(({ name, role, sha256 }) => {
      const identity: Identity = { name: Option.some(name), role }
      return [Buffer.from(sha256, "hex"), identity] as const
    })
  ]
  if (isOpen(config)) return () => Option.some(shared)
  return ({ headers: { authorization = "" } }: Request): Option.Option<Identity> => {
    const [, given = ""] = BEARER.exec(authorization) ?? []
    const sent = digest(given)
    // Each is looked at, so that the time tells nothing of which one it was.
    const matching = known.filter(([expected]) => timingSafeEqual(sent, expected))
    return Option.map(Option.fromNullable(matching[0]), ([, identity]) => identity)
  }
}

// By a proxy

const decodeName = Schema.decodeOption(CallerName)

const makeByProxy = ({ header, networks, operators }: Config.TrustedProxy) => {
  const addresses = new BlockList()
  for (const { address, prefix } of networks) addresses.addSubnet(address, prefix, familyOf(address))
  const roleOf = (name: string): Role =>
    operators._tag === "Everybody" || operators.names.has(name) ? "operator" : "reader"
  return (request: Request): Effect.Effect<Option.Option<Identity>, Problem> => {
    const given = request.headers[header]
    const isProxy = Option.exists(request.remoteAddress, (address) => contains(addresses, address))
    if (!isProxy || given === undefined) return Effect.succeedNone
    return Option.match(decodeName(given.trim()), {
      onNone: () => Effect.fail(Problems.noName(header)),
      onSome: (name) =>
        isRead(request) || isOwnPage(request)
          ? Effect.succeedSome({ name: Option.some(name), role: roleOf(name) })
          : Effect.fail(Problems.otherSite)
    })
  }
}

const familyOf = (address: string) => (isIPv6(address) ? "ipv6" : "ipv4")

/** An IPv4 address that a socket of IPv6 shows as ::ffff:10.0.0.1 is looked for as what it is. */
const contains = (addresses: BlockList, peer: string): boolean => {
  const address = peer.replace(/%.*$/, "")
  return addresses.check(address, familyOf(address))
}

/** Browsers say it by `Sec-Fetch-Site`, or by `Origin` where they do not trust the connection. Programs say neither. */
const isOwnPage = ({ headers: { host = "", origin, "sec-fetch-site": site } }: Request): boolean =>
  site === undefined ? origin === undefined || isOriginOf(host, origin) : site === "same-origin"

const isOriginOf = (host: string, origin: string): boolean =>
  origin === `https://${host.toLowerCase()}` || origin === `http://${host.toLowerCase()}`

// By being on this machine

/** What browsers send as `Sec-Fetch-Site` where no page led to the request: somebody typed the address, say. */
const BY_USER = "none"

/**
 * Fails unless the request was meant for this machine, by something on it. Headers are compared as they are written: what
 * a URL parser makes of `evil.example@127.0.0.1` or `0x7f.1` is a loopback address too.
 */
export const fromThisMachine: Effect.Effect<void, Problem, HttpServerRequest.HttpServerRequest> = Effect.flatMap(
  HttpServerRequest.HttpServerRequest,
  (request) => {
    const { host = "", origin, "sec-fetch-site": site } = request.headers
    if (!isLoopback(host.replace(/:\d{1,5}$/, ""))) return Effect.fail(Problems.notThisHost)
    // Typing an address reads. A change that no page led to is not one of the console's.
    const isOwn = site === undefined || site === "same-origin" || (site === BY_USER && isRead(request))
    return isOwn && (origin === undefined || origin === `http://${host.toLowerCase()}`)
      ? Effect.void
      : Effect.fail(Problems.otherOrigin)
  }
)
