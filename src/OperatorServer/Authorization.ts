/**
 * Who is let in.
 *
 * With a token: whoever sends it. Without one: whoever is on this machine. Then a browser on it must not be led here by a
 * page of somebody else: one whose name was made to resolve to a loopback address (DNS rebinding) is known by `Host`, one
 * that posts across sites by `Origin`, one that merely loads something, such as an image, by `Sec-Fetch-Site`.
 */
import { createHash, timingSafeEqual } from "node:crypto"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { Authorization } from "./Api/common.ts"
import * as Problem from "./Problem.ts"

type Token = Option.Option<Redacted.Redacted>

/** Of one length whatever was sent, so that comparing takes one time. */
const digest = (secret: Redacted.Redacted): Buffer => createHash("sha256").update(Redacted.value(secret)).digest()

export const layer = (token: Token): Layer.Layer<Authorization> =>
  Layer.succeed(
    Authorization,
    Authorization.of({
      token: (given) =>
        Option.match(token, {
          onNone: () => Effect.void,
          onSome: (token) =>
            timingSafeEqual(digest(given), digest(token))
              ? Effect.void
              : Problem.fail(
                  "unauthorized",
                  "Send the header Authorization: Bearer …, with what OUTBOX_HTTP_TOKEN is on the server"
                )
        })
    })
  )

/** Whether nobody but this machine can reach it: `localhost`, 127.0.0.0/8 or ::1. */
export const isLoopback = (host: string): boolean =>
  host === "localhost" || host === "::1" || host === "[::1]" || /^127(\.\d{1,3}){3}$/.test(host)

/** What browsers send as `Sec-Fetch-Site` where no page led to the request: somebody typed it, or has it as a bookmark. */
const TYPED = "none"

/** Fails unless the request was meant for this machine, by something on it. */
export const fromThisMachine: Effect.Effect<void, Problem.Problem, HttpServerRequest.HttpServerRequest> =
  Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ headers: { host = "", origin, "sec-fetch-site": site } }) => {
    const here = parse(`http://${host}`)
    if (here === undefined || !isLoopback(here.hostname)) {
      return Problem.fail(
        "forbidden",
        "This server has no token, so it answers only requests to localhost or a loopback address. Set OUTBOX_HTTP_TOKEN to use it under another name"
      )
    }
    const isForeign = site !== undefined && site !== "same-origin" && site !== TYPED
    if (isForeign || (origin !== undefined && parse(origin)?.origin !== here.origin)) {
      return Problem.fail(
        "forbidden",
        "This server has no token, so it answers no page of another origin. Set OUTBOX_HTTP_TOKEN and send it with the request"
      )
    }
    return Effect.void
  })

const parse = (url: string): URL | undefined => (URL.canParse(url) ? new URL(url) : undefined)
