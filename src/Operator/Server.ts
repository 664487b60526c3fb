/** Node's HTTP server, which no client can make wait for ever, nor bring down. */
import { createServer, type Server } from "node:http"
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
  keepAliveTimeout: 5_000
}

/** How long a connection may be silent, as that of a client which does not read its answer. */
const SILENCE_MILLIS = 300_000

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
      node.maxConnections = MAX_CONNECTIONS
      node.setTimeout(SILENCE_MILLIS)
      const sockets = track(node)
      const server = yield* NodeHttpServer.make(() => node, address)
      yield* Effect.addFinalizer(() => close(node, sockets))
      return server
    })
  )

/** The open connections. What goes wrong with one, or while one is accepted, would end the process if nobody heard it. */
const track = (node: Server): ReadonlySet<Socket> => {
  const sockets = new Set<Socket>()
  node.on("error", () => {})
  node.on("connection", (socket: Socket) => {
    sockets.add(socket)
    // Node does not listen any more once a client has asked for another protocol.
    socket.on("error", () => {}).once("close", () => sockets.delete(socket))
  })
  return sockets
}

/** Takes no more connections and closes the idle ones; closes the others when they are done, or when time is up. */
const close = (node: Server, sockets: ReadonlySet<Socket>): Effect.Effect<void> =>
  Effect.async<void>((resume) => {
    node.close(() => resume(Effect.void))
  }).pipe(
    Effect.interruptible,
    Effect.timeoutOption(GRACE),
    Effect.zipRight(
      Effect.sync(() => {
        for (const socket of sockets) socket.destroy()
      })
    )
  )
