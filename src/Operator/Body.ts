/**
 * Reading a request's body.
 *
 * By hand, because HttpApi turns what is not JSON into a defect, stores multipart forms on disk, and cuts the connection
 * of a client that sends too much before it can be told.
 */

import type * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import * as NodeStream from "@effect/platform-node/NodeStream"
import * as Effect from "effect/Effect"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { toIssues } from "./Answer.ts"
import * as Problem from "./Problem.ts"

/** A context may weigh 1 MiB as Postgres writes it, and 6 bytes for 1 where a client escapes every character. */
const MAX_BYTES = 9 * 1024 * 1024

const JSON_TYPE = /^application\/(?:[\w.+-]+\+)?json\s*(?:;|$)/i

/** The body as it was sent, which is JSON. */
export const text = (request: HttpServerRequest.HttpServerRequest): Effect.Effect<string, Problem.Problem> =>
  Effect.gen(function* () {
    const { "content-length": length = "0", "content-type": type } = request.headers
    if (type !== undefined && !JSON_TYPE.test(type)) {
      return yield* Problem.fail("no-json", "Send the body as JSON, with the header Content-Type: application/json")
    }
    if (Number(length) > MAX_BYTES) return yield* tooLarge
    const text = yield* decode(yield* read(request))
    yield* parse(text)
    return text
  })

/** The body as `schema` has it. */
export const json =
  <A, I>(schema: Schema.Schema<A, I>) =>
  (request: HttpServerRequest.HttpServerRequest): Effect.Effect<A, Problem.Problem> =>
    text(request).pipe(
      Effect.flatMap(parse),
      Effect.flatMap((value) =>
        Effect.mapError(Schema.decodeUnknown(schema)(value), ({ issue }) =>
          Problem.make(
            "bad-request",
            "Nothing was done. Correct the body as `issues` says and try again",
            toIssues(ParseResult.ArrayFormatter.formatIssueSync(issue))
          )
        )
      )
    )

const tooLarge = Problem.fail("too-large", `A body may have ${MAX_BYTES} bytes at most`)

const read = (
  request: HttpServerRequest.HttpServerRequest
): Effect.Effect<ReadonlyArray<Uint8Array>, Problem.Problem> => {
  const source = NodeHttpServerRequest.toIncomingMessage(request)
  const unreadable = () => Problem.make("bad-request", "The body broke off")
  const chunks: Array<Uint8Array> = []
  return NodeStream.fromReadable<Problem.Problem, Uint8Array>(() => source, unreadable, { closeOnDone: false }).pipe(
    Stream.runFoldEffect(0, (bytes, chunk) => {
      chunks.push(chunk)
      return bytes + chunk.length > MAX_BYTES ? tooLarge : Effect.succeed(bytes + chunk.length)
    }),
    Effect.as(chunks),
    // What is left of it is thrown away: a client that is still sending does not read the answer yet.
    Effect.ensuring(Effect.sync(() => source.resume()))
  )
}

/** Without the replacement characters that Node's own decoding puts for what is no UTF-8: they would change an event. */
const decode = (chunks: ReadonlyArray<Uint8Array>): Effect.Effect<string, Problem.Problem> =>
  Effect.try({
    try: () => new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(Buffer.concat(chunks)),
    catch: () => Problem.make("bad-request", "The body is not UTF-8")
  })

const parse = (text: string): Effect.Effect<unknown, Problem.Problem> =>
  Effect.try({
    try: (): unknown => JSON.parse(text),
    catch: (error) =>
      Problem.make("bad-request", `The body is not JSON: ${error instanceof Error ? error.message : String(error)}`)
  })
