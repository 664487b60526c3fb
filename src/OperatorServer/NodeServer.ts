/** Node's HTTP server, which no client can make wait for ever, nor bring down, nor keep others from. */
import { createServer, type IncomingMessage, type Server } from "node:http"
import type { Socket } from "node:net"
import * as HttpServer from "@effect/platform/HttpServer"
import type { ServeError } from "@effect/platform/HttpServerError"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

const OPTIONS = {
  // How long a request's headers, and all of it, may take to arrive.
  headersTimeout: 10_000,
  requestTimeout: 60_000,
  connectionsCheckingInterval: 5_000,
  keepAliveTimeout: 5_000,
  maxHeaderSize: 16_384
}

/** Requests on one connection: a client may send them all at once, and not read one of the answers. */
const MAX_REQUESTS = 100

/** How long a connection may be silent, as that of a client which does not read its answer. */
const SILENCE_MILLIS = 300_000

/**
 * More are let in, but another goes for each: were newcomers turned away, a hundred connections that send nothing would
 * keep out the probe by which a platform knows that the relay lives.
 */
const MAX_CONNECTIONS = 100

/** How long requests under way may take once the server is to stop. */
const GRACE = "1 second"

export const layer = (address: {
  readonly host: string
  readonly port: number
}): Layer.Layer<HttpServer.HttpServer, ServeError> =>
  Layer.scoped(
    HttpServer.HttpServer,
    Effect.gen(function* () {
      const node = createServer(OPTIONS)
      node.maxRequestsPerSocket = MAX_REQUESTS
      node.setTimeout(SILENCE_MILLIS)
      const sockets = track(node)
      const server = yield* NodeHttpServer.make(() => node, address)
      yield* Effect.addFinalizer(() => end(node, sockets))
      return server
    })
  )

/** What each open connection has asked last and was not answered yet, in the order in which they were opened. */
type Sockets = Map<Socket, IncomingMessage | undefined>

/** What goes wrong with a connection, or while one is accepted, would end the process if nobody heard it. */
const track = (node: Server): Sockets => {
  const sockets: Sockets = new Map()
  node.on("error", () => {})
  node.on("connection", (socket: Socket) => {
    if (sockets.size >= MAX_CONNECTIONS) close(sockets, longestIdle(sockets))
    sockets.set(socket, undefined)
    // Node does not listen any more once a client has asked for another protocol.
    socket.on("error", () => {}).once("close", () => sockets.delete(socket))
  })
  node.on("request", (request, response) => {
    const { socket } = request
    if (sockets.has(socket)) sockets.set(socket, request)
    response.once("close", () => {
      if (sockets.get(socket) === request) sockets.set(socket, undefined)
    })
  })
  return sockets
}

/** Of connections that no whole request has come on the one that was opened first; of all, if there is none such. */
const longestIdle = (sockets: Sockets): Socket | undefined => {
  for (const [socket, request] of sockets) if (request?.complete !== true) return socket
  return sockets.keys().next().value
}

/** Not when the socket says so, which is later: many may be opened until then. */
const close = (sockets: Sockets, socket: Socket | undefined): void => {
  if (socket === undefined) return
  sockets.delete(socket)
  socket.destroy()
}

/** Takes no more connections and closes the idle ones; closes the others when they are done, or when time is up. */
const end = (node: Server, sockets: Sockets): Effect.Effect<void> =>
  Effect.async<void>((resume) => {
    node.close(() => resume(Effect.void))
  }).pipe(
    Effect.interruptible,
    Effect.timeoutOption(GRACE),
    Effect.zipRight(
      Effect.sync(() => {
        for (const socket of sockets.keys()) socket.destroy()
      })
    )
  )
