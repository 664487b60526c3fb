/** What every group says alike: who is let in, how it says no, and what its documentation shows. */
import * as HttpApiMiddleware from "@effect/platform/HttpApiMiddleware"
import * as HttpApiSecurity from "@effect/platform/HttpApiSecurity"
import * as OpenApi from "@effect/platform/OpenApi"
import * as Schema from "effect/Schema"
import * as Problem from "../Problem.ts"

const BadRequest = Problem.ofStatus(400, "A parameter or the body is not valid; `issues` says what and why.")
const Unauthorized = Problem.ofStatus(401, "The server asks for a token, and this is not it.")
const Forbidden = Problem.ofStatus(
  403,
  "The server asks for no token, and the request is not from its own machine; or its role in Postgres may not do this."
)
export const NotFound = Problem.ofStatus(404, "There is nothing of this id.")
export const Conflict = Problem.ofStatus(409, "Somebody was faster. Nothing was changed.")
export const bodyRefused = (limit: string) =>
  Schema.Union(
    Problem.ofStatus(413, `The body is larger than ${limit}.`),
    Problem.ofStatus(415, "The body's content type is not `application/json`.")
  )
export const BodyRefused = bodyRefused("64 KiB")
const Bug = Problem.ofStatus(500, "A bug, which the server's log shows.")
const Unavailable = Problem.ofStatus(503, "A database does not answer. Nothing is lost by trying again.")

/** Whatever is asked for. */
export const Everywhere = Schema.Union(BadRequest, Forbidden, Bug, Unavailable)

/** Lets whoever has the token in, or everybody where the server has none; see `../Authorization.ts`. */
export class Authorization extends HttpApiMiddleware.Tag<Authorization>()("clickhouse-outbox/Operator/Authorization", {
  failure: Unauthorized,
  security: {
    token: HttpApiSecurity.bearer.pipe(
      HttpApiSecurity.annotate(OpenApi.Description, "`OUTBOX_HTTP_TOKEN` of the server, if it has one.")
    )
  }
}) {}

export const about = (summary: string, description: string) => OpenApi.annotations({ summary, description })
