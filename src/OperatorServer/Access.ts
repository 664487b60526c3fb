/**
 * Who is let in.
 *
 * With a token: whoever sends it. Without one: whoever is on this machine. Then a browser on this machine must not be led
 * here by somebody else's page. A page whose name was made to resolve to a loopback address (DNS rebinding) is known by
 * `Host`, one that posts across sites by `Origin`, one that merely loads something, such as an image, by `Sec-Fetch-Site`.
 */
import { createHash, timingSafeEqual } from "node:crypto"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { Authorization } from "./Api/fields.ts"
import type { Problem } from "./Problem.ts"
import * as Problems from "./Problems.ts"

/** Of one length whatever was sent, so that comparing always takes the same time. */
const digest = (secret: string): Buffer => createHash("sha256").update(secret).digest()

/** One space: https://www.rfc-editor.org/rfc/rfc6750#section-2.1. */
const BEARER = /^Bearer (.+)$/i

/** HttpApi hands over what follows the first seven characters, whatever those are. So the header is read here. */
export const layer = (token: Option.Option<Redacted.Redacted>): Layer.Layer<Authorization> => {
  const expected = Option.map(token, (token) => digest(Redacted.value(token)))
  return Layer.succeed(
    Authorization,
    Authorization.of({
      token: () =>
        Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ headers: { authorization = "" } }) => {
          const [, given = ""] = BEARER.exec(authorization) ?? []
          return Option.isNone(expected) || timingSafeEqual(digest(given), expected.value)
            ? Effect.void
            : Effect.fail(Problems.unauthorized)
        })
    })
  )
}

const LOOPBACK = /^(?:localhost|127(?:\.\d{1,3}){3}|::1|\[::1\])$/i

/** Whether nobody but this machine can reach it: `localhost`, 127.0.0.0/8 or ::1. */
export const isLoopback = (host: string): boolean => LOOPBACK.test(host)

/** What browsers send as `Sec-Fetch-Site` where no page led to the request: somebody typed the address, say. */
const BY_USER = "none"

const READS: ReadonlySet<string> = new Set(["GET", "HEAD"])

/**
 * Fails unless the request was meant for this machine, by something on it. Headers are compared as they are written: what
 * a URL parser makes of `evil.example@127.0.0.1` or `0x7f.1` is a loopback address too.
 */
export const fromThisMachine: Effect.Effect<void, Problem, HttpServerRequest.HttpServerRequest> = Effect.flatMap(
  HttpServerRequest.HttpServerRequest,
  ({ headers: { host = "", origin, "sec-fetch-site": site }, method }) => {
    if (!isLoopback(host.replace(/:\d{1,5}$/, ""))) return Effect.fail(Problems.notThisHost)
    // Typing an address reads. A change that no page led to is not one of the console's.
    const isOwn = site === undefined || site === "same-origin" || (site === BY_USER && READS.has(method))
    return isOwn && (origin === undefined || origin === `http://${host.toLowerCase()}`)
      ? Effect.void
      : Effect.fail(Problems.otherOrigin)
  }
)
