/** The operator API in the test's own program, asked as any client asks: over HTTP. */
import { createHash } from "node:crypto"
import * as Http from "node:http"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as BatchFailures from "../../src/BatchFailures.ts"
import * as Config from "../../src/Config.ts"
import * as EventLog from "../../src/EventLog.ts"
import { CallerName, type Role } from "../../src/internal/callers.ts"
import * as Operations from "../../src/Operations.ts"
import * as OperatorServer from "../../src/OperatorServer.ts"
import * as Relay from "../../src/Relay.ts"

/** A relay that has not started: what is delivered here the tests deliver. */
const relay = Layer.effect(
  Relay.Relay,
  Effect.flatMap(Effect.all([Config.relay, Config.outbox]), ([relay, outbox]) => Relay.make({ ...relay, ...outbox }))
)

export const services = Layer.mergeAll(BatchFailures.layer, Operations.layer, EventLog.layerConfig, relay)

export const config: Config.Http = {
  port: 0,
  host: "127.0.0.1",
  token: Option.none(),
  tokens: [],
  proxy: Option.none()
}

export const TOKEN = "correct horse battery staple"

export const withToken: Config.Http = { ...config, token: Option.some(Redacted.make(TOKEN)) }

/** The token of somebody who has one of their own. */
export const tokenOf = (name: string): string => `outbox_${name}`

export const named = (name: string, role: Role): Config.NamedToken => ({
  name: CallerName.make(name),
  role,
  sha256: createHash("sha256").update(tokenOf(name)).digest("hex")
})

/** Where it listens, until the scope closes. */
export const start = (http: Config.Http = config, options?: OperatorServer.Options) =>
  OperatorServer.make(http, options).pipe(Effect.flatMap(({ url }) => Effect.flatMap(url, Effect.orDie)))

export interface Asked {
  readonly body?: string | Uint8Array
  readonly headers?: Readonly<Record<string, string>>
}

export interface Answered {
  readonly status: number
  readonly headers: Http.IncomingHttpHeaders
  readonly text: string
  readonly json: unknown
}

const parse = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Not `fetch`, which lets nobody choose the `Host`. A body is JSON unless its headers say otherwise. */
export const ask = (url: string, request: string, { body, headers }: Asked = {}): Effect.Effect<Answered> =>
  Effect.async((resume) => {
    const [method, path = "/"] = request.split(" ")
    const sent = Http.request(
      `${url}${path}`,
      {
        agent: false,
        headers: { ...(body !== undefined && { "content-type": "application/json" }), ...headers },
        method
      },
      (response) => {
        const chunks: Array<Uint8Array> = []
        response.on("data", (chunk: Uint8Array) => chunks.push(chunk))
        response.on("end", () => {
          const text = Buffer.concat(chunks).toString()
          resume(
            Effect.succeed({ status: response.statusCode ?? 0, headers: response.headers, text, json: parse(text) })
          )
        })
      }
    )
    sent.on("error", (error) => resume(Effect.die(error)))
    sent.end(body)
  })

/** A function that asks a server of its own. */
export const asker = (http?: Config.Http) =>
  Effect.map(start(http), (url) => (request: string, asked?: Asked) => ask(url, request, asked))

/** The reasons of a problem's issues, by field. */
export const issuesOf = ({ json }: Answered): ReadonlyArray<string> => {
  const { issues } = Object(json)
  return Arr.map(Arr.ensure(issues ?? []), (issue) => `${Object(issue).field}: ${Object(issue).reason}`)
}
