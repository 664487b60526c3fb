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

/** Enough for every body but a correction, so that all connections together cannot fill the memory with them. */
const MAX_BYTES = 64 * 1024

/** A context may weigh 1 MiB as Postgres writes it, and 6 bytes for 1 where a client escapes every character. */
const MAX_LARGE_BYTES = 9 * 1024 * 1024

/** Bodies of more than {@link MAX_BYTES} that are in memory at the same time. */
const LARGE_AT_A_TIME = 2

const JSON_TYPE = /^application\/(?:[\w.+-]+\+)?json\s*(?:;|$)/i

type Request = HttpServerRequest.HttpServerRequest

/** Reads a body that may be large, as it was sent, which is JSON. */
export type UseLarge = <A, E>(
  request: Request,
  use: (text: string) => Effect.Effect<A, E>
) => Effect.Effect<A, E | Problem.Problem>

/** One that is large waits until it is its turn, which lasts until `use` has ended; what waits is not read. */
export const makeLarge: Effect.Effect<UseLarge> = Effect.map(
  Effect.makeSemaphore(LARGE_AT_A_TIME),
  (turns) => (request, use) =>
    Effect.flatMap(admit(request, MAX_LARGE_BYTES), (bytes) => {
      const used = Effect.flatMap(text(request, MAX_LARGE_BYTES), use)
      return bytes > MAX_BYTES ? turns.withPermits(1)(used) : used
    })
)

/** How many bytes are announced, if they may come. */
const admit = ({ headers }: Request, maxBytes: number): Effect.Effect<number, Problem.Problem> => {
  const { "content-length": length = "0", "content-type": type, "transfer-encoding": encoding } = headers
  if (type !== undefined && !JSON_TYPE.test(type)) {
    return Problem.fail("no-json", "Send the body as JSON, with the header Content-Type: application/json")
  }
  if (Number(length) > maxBytes) return tooLarge(maxBytes)
  return Effect.succeed(encoding === undefined ? Number(length) : Number.POSITIVE_INFINITY)
}

const text = (request: Request, maxBytes: number): Effect.Effect<string, Problem.Problem> =>
  Effect.tap(Effect.flatMap(read(request, maxBytes), decode), parse)

/** The body as `schema` has it. */
export const json =
  <A, I>(schema: Schema.Schema<A, I>) =>
  (request: Request): Effect.Effect<A, Problem.Problem> =>
    admit(request, MAX_BYTES).pipe(
      Effect.zipRight(text(request, MAX_BYTES)),
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

const tooLarge = (maxBytes: number) => Problem.fail("too-large", `This body may have ${maxBytes} bytes at most`)

const read = (request: Request, maxBytes: number): Effect.Effect<ReadonlyArray<Uint8Array>, Problem.Problem> => {
  const source = NodeHttpServerRequest.toIncomingMessage(request)
  const unreadable = () => Problem.make("bad-request", "The body broke off")
  const chunks: Array<Uint8Array> = []
  return NodeStream.fromReadable<Problem.Problem, Uint8Array>(() => source, unreadable, { closeOnDone: false }).pipe(
    Stream.runFoldEffect(0, (bytes, chunk) => {
      chunks.push(chunk)
      return bytes + chunk.length > maxBytes ? tooLarge(maxBytes) : Effect.succeed(bytes + chunk.length)
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
