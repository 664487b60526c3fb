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
import * as Turns from "./Turns.ts"

interface Limits {
  readonly bytes: number
  /** Bytes of the same JSON without spaces and escapes: about what Postgres would write. */
  readonly compactBytes: number
  readonly levels: number
  /** Members of objects and elements of arrays, of all of them together. */
  readonly members: number
}

const KIBI = 1024
const MEBI = KIBI * KIBI

/** Enough for every body but a correction, so that all connections together cannot fill the memory with them. */
const SMALL: Limits = { bytes: 64 * KIBI, compactBytes: 64 * KIBI, levels: 16, members: 1_000 }

/**
 * A context may weigh 1 MiB and have 1,000 levels, as `publish` checks it; the rest is for the other members. A client
 * that escapes every character sends 6 bytes for 1. As Postgres writes JSON, 1 MiB is at most 350,000 elements.
 */
const CORRECTION: Limits = { bytes: 9 * MEBI, compactBytes: MEBI + 64 * KIBI, levels: 1_002, members: 350_000 }

/** Bodies of more than {@link SMALL} that are in memory at the same time. */
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

const json = (request: Request): Effect.Effect<unknown> => Effect.orDie(Effect.flatMap(text(request, SMALL), parse))

/** Uses a body that may be large, as it was sent, which is JSON. */
type UseCorrection = <A, E>(
  request: Request,
  use: (text: string) => Effect.Effect<A, E>
) => Effect.Effect<A, E | Problem>

/** A large one waits for its turn, which lasts until `use` has ended. While it waits it is not read. */
export const makeUseCorrection = (): UseCorrection => {
  const inTurn = Turns.make(LARGE_AT_A_TIME)
  return (request, use) => {
    const used = Effect.flatMap(Effect.tap(text(request, CORRECTION), parse), use)
    return announced(request) > SMALL.bytes ? inTurn(used) : used
  }
}

/** How many bytes will come: any number, where that is not said. */
const announced = ({ headers }: Request): number =>
  headers["transfer-encoding"] === undefined ? Number(headers["content-length"] ?? 0) : Number.POSITIVE_INFINITY

const text = (request: Request, limits: Limits): Effect.Effect<string, Problem> =>
  Effect.gen(function* () {
    const { "content-length": length = "0", "content-type": type } = request.headers
    if (type !== undefined && !JSON_TYPE.test(type)) return yield* Effect.fail(Problems.notJsonType)
    if (Number(length) > limits.bytes) return yield* Effect.fail(Problems.tooLarge(limits.bytes))
    return yield* decode(yield* read(request, limits))
  })

const read = (request: Request, limits: Limits): Effect.Effect<ReadonlyArray<Uint8Array>, Problem> => {
  const source = NodeHttpServerRequest.toIncomingMessage(request)
  const chunks: Array<Uint8Array> = []
  const scan = scanner(limits)
  return NodeStream.fromReadable<Problem, Uint8Array>(
    () => source,
    () => Problems.brokenOff,
    { closeOnDone: false }
  ).pipe(
    Stream.runForEach((chunk) => {
      chunks.push(chunk)
      return scan(chunk) ?? Effect.void
    }),
    Effect.as(chunks),
    // The rest is thrown away: a client that is still sending does not read the answer yet.
    Effect.ensuring(Effect.sync(() => source.resume()))
  )
}

const [QUOTE, BACKSLASH, SLASH, COMMA, U] = Buffer.from('"\\/,u')
const OPEN: ReadonlySet<number> = new Set(Buffer.from("{["))
const CLOSE: ReadonlySet<number> = new Set(Buffer.from("}]"))
const SPACE: ReadonlySet<number> = new Set(Buffer.from(" \t\r\n"))

/**
 * Measures JSON while it arrives, looking at each byte once and keeping none: what is too much is known before anything is
 * built of it. What is not JSON is for the parser to find.
 */
const scanner = (limits: Limits): ((chunk: Uint8Array) => Problem | undefined) => {
  let bytes = 0
  let compactBytes = 0
  let levels = 0
  let members = 0
  /** Whether the last thing was an opening bracket: whatever follows it but its end is a member. */
  let isFirst = false
  let isString = false
  let isEscaped = false
  /** Digits of \uXXXX that are still to come. */
  let digits = 0

  const inString = (byte: number) => {
    if (digits > 0) digits--
    else if (isEscaped) {
      isEscaped = false
      digits = byte === U ? 4 : 0
      // A \u stands for one byte or more, and Postgres writes \/ as one.
      compactBytes += byte === U || byte === SLASH ? 1 : 2
    } else if (byte === BACKSLASH) isEscaped = true
    else {
      compactBytes++
      isString = byte !== QUOTE
    }
  }

  const outside = (byte: number) => {
    if (SPACE.has(byte)) return
    compactBytes++
    const isClose = CLOSE.has(byte)
    if (byte === COMMA || (isFirst && !isClose)) members++
    isFirst = OPEN.has(byte)
    if (isFirst) levels++
    else if (isClose) levels--
    else isString = byte === QUOTE
  }

  return (chunk) => {
    bytes += chunk.length
    if (bytes > limits.bytes) return Problems.tooLarge(limits.bytes)
    for (const byte of chunk) {
      if (isString) inString(byte)
      else outside(byte)
      if (levels > limits.levels) return Problems.tooDeep(limits.levels)
    }
    if (compactBytes > limits.compactBytes) return Problems.tooHeavy(limits.compactBytes)
    return members > limits.members ? Problems.tooManyMembers(limits.members) : undefined
  }
}

/** Node's own decoding puts replacement characters for what is not UTF-8, which would change an event. */
const decode = (chunks: ReadonlyArray<Uint8Array>): Effect.Effect<string, Problem> =>
  Effect.try({
    try: () => new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(Buffer.concat(chunks)),
    catch: () => Problems.notUtf8
  })

const parse = (text: string): Effect.Effect<unknown, Problem> =>
  Effect.try({ try: (): unknown => JSON.parse(text), catch: Problems.notJson })
