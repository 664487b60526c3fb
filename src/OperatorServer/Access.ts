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
const digest = (secret: Redacted.Redacted): Buffer => createHash("sha256").update(Redacted.value(secret)).digest()

export const layer = (token: Option.Option<Redacted.Redacted>): Layer.Layer<Authorization> =>
  Layer.succeed(
    Authorization,
    Authorization.of({
      token: (given) =>
        Option.match(token, {
          onNone: () => Effect.void,
          onSome: (token) =>
            timingSafeEqual(digest(given), digest(token)) ? Effect.void : Effect.fail(Problems.unauthorized)
        })
    })
  )

/** Whether nobody but this machine can reach it: `localhost`, 127.0.0.0/8 or ::1. */
export const isLoopback = (host: string): boolean =>
  host === "localhost" || host === "::1" || host === "[::1]" || /^127(\.\d{1,3}){3}$/.test(host)

/** What browsers send as `Sec-Fetch-Site` where no page led to the request: somebody typed the address, say. */
const BY_USER = "none"

/** Fails unless the request was meant for this machine, by something on it. */
export const fromThisMachine: Effect.Effect<void, Problem, HttpServerRequest.HttpServerRequest> = Effect.flatMap(
  HttpServerRequest.HttpServerRequest,
  ({ headers: { host = "", origin, "sec-fetch-site": site } }) => {
    const here = parse(`http://${host}`)
    if (here === undefined || !isLoopback(here.hostname)) return Effect.fail(Problems.notThisHost)
    const isForeign = site !== undefined && site !== "same-origin" && site !== BY_USER
    return isForeign || (origin !== undefined && parse(origin)?.origin !== here.origin)
      ? Effect.fail(Problems.otherOrigin)
      : Effect.void
  }
)

const parse = (url: string): URL | undefined => (URL.canParse(url) ? new URL(url) : undefined)
