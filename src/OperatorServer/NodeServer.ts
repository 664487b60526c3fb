/**
 * Node's HTTP server, which no client can make wait for ever, nor bring down, nor keep others from.
 *
 * One request of a connection is handled at a time. Node would begin all those that a client has sent without waiting for
 * an answer (pipelining), and would not end the ones whose turn to be answered had not come when the client went away.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http"
import type { AddressInfo, Socket } from "node:net"
import { ServeError } from "@effect/platform/HttpServerError"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

const OPTIONS = {
  // How long a request's headers, and all of it, may take to arrive.
  headersTimeout: 10_000,
  requestTimeout: 60_000,
  connectionsCheckingInterval: 5_000,
  keepAliveTimeout: 5_000,
  maxHeaderSize: 16_384
}

/** Requests on one connection: a client may send them all at once, and they are kept until it is their turn. */
const MAX_REQUESTS = 100

/** How long a connection may be silent, as that of a client which does not read its answer. */
const SILENCE_MILLIS = 300_000

/**
 * Newcomers are let in all the same, and another connection is closed for each: a hundred connections that send nothing
 * would otherwise keep out the probe by which a platform knows that the relay lives.
 */
const MAX_CONNECTIONS = 100

/** How long requests under way may take once the server is to stop. */
const GRACE = "1 second"

type Handler = (request: IncomingMessage, response: ServerResponse) => void

interface Options {
  readonly host: string
  readonly port: number
  readonly handler: Handler
}

/** Listens until the scope closes. Returns the URL. */
export const listen = ({ handler, ...address }: Options): Effect.Effect<string, ServeError, Scope.Scope> =>
  Effect.gen(function* () {
    const node = createServer(OPTIONS)
    node.maxRequestsPerSocket = MAX_REQUESTS
    node.setTimeout(SILENCE_MILLIS)
    const connections = accept(node, handler)
    yield* Effect.acquireRelease(begin(node, address), () => end(node, connections))
    return urlOf(node.address())
  })

interface Connection {
  /** The request that is being handled. */
  current: IncomingMessage | undefined
  readonly waiting: Array<{ readonly request: IncomingMessage; readonly response: ServerResponse }>
}

/** In the order in which they were opened. */
type Connections = Map<Socket, Connection>

/** Without listeners for "error", what goes wrong with a connection or while one is accepted would end the process. */
const accept = (node: Server, handler: Handler): Connections => {
  const connections: Connections = new Map()
  node.on("error", () => {})
  node.on("connection", (socket: Socket) => {
    if (connections.size >= MAX_CONNECTIONS) close(connections, longestIdle(connections))
    connections.set(socket, { current: undefined, waiting: [] })
    socket.on("error", () => {}).once("close", () => connections.delete(socket))
  })
  node.on("request", (request, response) => {
    const connection = connections.get(request.socket)
    // One that was just closed for a newcomer is not answered.
    if (connection === undefined) return
    connection.waiting.push({ request, response })
    handleNext(connection, handler)
  })
  return connections
}

const handleNext = (connection: Connection, handler: Handler): void => {
  if (connection.current !== undefined) return
  const next = connection.waiting.shift()
  // Once a connection has been closed nobody reads what is answered to the rest of it.
  if (next === undefined || next.request.socket.destroyed) return
  connection.current = next.request
  next.response.once("close", () => {
    connection.current = undefined
    handleNext(connection, handler)
  })
  handler(next.request, next.response)
}

/** Of the connections without a whole request the one that was opened first; of all, if there is none such. */
const longestIdle = (connections: Connections): Socket | undefined => {
  for (const [socket, { current }] of connections) if (current?.complete !== true) return socket
  return connections.keys().next().value
}

/** Forgotten at once, and not when the socket says that it is closed: many may be opened until then. */
const close = (connections: Connections, socket: Socket | undefined): void => {
  if (socket === undefined) return
  connections.delete(socket)
  socket.destroy()
}

const begin = (node: Server, address: { readonly host: string; readonly port: number }) =>
  Effect.async<void, ServeError>((resume) => {
    const failed = (cause: Error) => resume(Effect.fail(new ServeError({ cause })))
    node.once("error", failed)
    node.listen(address, () => {
      node.off("error", failed)
      resume(Effect.void)
    })
  })

/** Takes no more connections and closes the idle ones; closes the others when they are done, or when time is up. */
const end = (node: Server, connections: Connections): Effect.Effect<void> =>
  Effect.async<void>((resume) => {
    node.close(() => resume(Effect.void))
  }).pipe(
    Effect.interruptible,
    Effect.timeoutOption(GRACE),
    Effect.zipRight(
      Effect.sync(() => {
        for (const socket of connections.keys()) socket.destroy()
      })
    )
  )

const urlOf = (address: AddressInfo | string | null): string => {
  if (address === null || typeof address === "string") return String(address)
  return `http://${address.family === "IPv6" ? `[${address.address}]` : address.address}:${address.port}`
}
