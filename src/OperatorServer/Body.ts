/**
 * Reading a request's body.
 *
 * Not by HttpApi, which makes a defect of what is not JSON, stores multipart forms on disk, and cuts the connection of a
 * client that sends too much before it can be told.
 */
import type * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import * as NodeStream from "@effect/platform-node/NodeStream"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { Problem } from "./Problem.ts"
import * as Problems from "./Problems.ts"

/** Enough for every body but a correction, so that all connections together cannot fill the memory with them. */
const MAX_BYTES = 64 * 1024

/** A context may weigh 1 MiB as Postgres writes it, and 6 bytes for 1 where a client escapes every character. */
const MAX_LARGE_BYTES = 9 * 1024 * 1024

/** Bodies of more than {@link MAX_BYTES} that are in memory at the same time. */
const LARGE_AT_A_TIME = 2

const JSON_TYPE = /^application\/(?:[\w.+-]+\+)?json\s*(?:;|$)/i

type Request = HttpServerRequest.HttpServerRequest

/**
 * The request as HttpApi is to see it: its body is JSON, which is read here. The contract says what it has to be. A body
 * that cannot be read is a defect to HttpApi, and so a problem dies there; {@link Problems.answer} answers it.
 */
export const asJson = (request: Request): Request =>
  new Proxy(request.modify({ headers: { ...request.headers, "content-type": "application/json" } }), {
    get: (target, name) => (name === "json" ? json(request) : Reflect.get(target, name))
  })

const json = (request: Request): Effect.Effect<unknown> =>
  admit(request, MAX_BYTES).pipe(Effect.zipRight(text(request, MAX_BYTES)), Effect.flatMap(parse), Effect.orDie)

/** Uses a body that may be large, as it was sent, which is JSON. */
export type UseLarge = <A, E>(
  request: Request,
  use: (text: string) => Effect.Effect<A, E>
) => Effect.Effect<A, E | Problem>

/** A large one waits for its turn, which lasts until `use` has ended. While it waits it is not read. */
export const makeLarge: Effect.Effect<UseLarge> = Effect.map(
  Effect.makeSemaphore(LARGE_AT_A_TIME),
  (turns) => (request, use) =>
    Effect.flatMap(admit(request, MAX_LARGE_BYTES), (bytes) => {
      const used = Effect.flatMap(Effect.tap(text(request, MAX_LARGE_BYTES), parse), use)
      return bytes > MAX_BYTES ? turns.withPermits(1)(used) : used
    })
)

/** How many bytes are announced, if they may come. */
const admit = ({ headers }: Request, maxBytes: number): Effect.Effect<number, Problem> => {
  const { "content-length": length = "0", "content-type": type, "transfer-encoding": encoding } = headers
  if (type !== undefined && !JSON_TYPE.test(type)) return Effect.fail(Problems.notJsonType)
  if (Number(length) > maxBytes) return Effect.fail(Problems.tooLarge(maxBytes))
  return Effect.succeed(encoding === undefined ? Number(length) : Number.POSITIVE_INFINITY)
}

const text = (request: Request, maxBytes: number): Effect.Effect<string, Problem> =>
  Effect.flatMap(read(request, maxBytes), decode)

const read = (request: Request, maxBytes: number): Effect.Effect<ReadonlyArray<Uint8Array>, Problem> => {
  const source = NodeHttpServerRequest.toIncomingMessage(request)
  const chunks: Array<Uint8Array> = []
  return NodeStream.fromReadable<Problem, Uint8Array>(
    () => source,
    () => Problems.brokenOff,
    {
      closeOnDone: false
    }
  ).pipe(
    Stream.runFoldEffect(0, (bytes, chunk) => {
      chunks.push(chunk)
      return bytes + chunk.length > maxBytes
        ? Effect.fail(Problems.tooLarge(maxBytes))
        : Effect.succeed(bytes + chunk.length)
    }),
    Effect.as(chunks),
    // The rest is thrown away: a client that is still sending does not read the answer yet.
    Effect.ensuring(Effect.sync(() => source.resume()))
  )
}

/** Node's own decoding puts replacement characters for what is not UTF-8, which would change an event. */
const decode = (chunks: ReadonlyArray<Uint8Array>): Effect.Effect<string, Problem> =>
  Effect.try({
    try: () => new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(Buffer.concat(chunks)),
    catch: () => Problems.notUtf8
  })

const parse = (text: string): Effect.Effect<unknown, Problem> =>
  Effect.try({ try: (): unknown => JSON.parse(text), catch: Problems.notJson })
