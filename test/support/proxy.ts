/** A TCP proxy, to break what lies between a relay and a database. */
import * as Net from "node:net"
import * as Effect from "effect/Effect"

/** Bytes on their way through a connection. */
export interface Passing {
  readonly from: "client" | "server"
  readonly bytes: Buffer
  /** First line of the HTTP request that the connection is busy with. */
  readonly request: string
  /** How many bytes of that request have passed before these. */
  readonly sent: number
}

export interface Proxy {
  /** The server's URL, through the proxy. */
  readonly url: string
  /** Cuts all connections. New ones are let through. */
  readonly cut: Effect.Effect<void>
  /**
   * Cuts the next connection for which `find` gives a number: of the bytes that are passing so many still arrive, then
   * both ends see the connection end. Other connections are let through.
   */
  readonly cutNext: (find: (passing: Passing) => number | undefined) => Effect.Effect<void>
  /** Whether {@link cutNext} has cut. */
  readonly wasCut: Effect.Effect<boolean>
  /** Whether bytes go nowhere, with nobody told, as when a host or a network is lost. */
  readonly freeze: (frozen: boolean) => Effect.Effect<void>
}

/** A proxy in front of the server that `url` names, until the scope closes. */
export const make = (url: string) =>
  Effect.gen(function* () {
    const target = new URL(url)
    const sockets = new Set<Net.Socket>()
    let find: ((passing: Passing) => number | undefined) | undefined
    let wasCut = false
    let frozen = false

    const server = Net.createServer((client) => {
      const upstream = Net.connect({ host: target.hostname, port: Number(target.port) })
      let request = ""
      let sent = 0
      const close = () => {
        for (const socket of [client, upstream]) {
          sockets.delete(socket)
          socket.destroy()
        }
      }
      const forward = (from: Passing["from"], source: Net.Socket, destination: Net.Socket) =>
        source.on("data", (bytes) => {
          if (from === "client" && /^(GET|POST) /.test(bytes.toString("latin1", 0, 5))) {
            request = bytes.toString("latin1").split("\r\n", 1)[0] ?? ""
            sent = 0
          }
          const arriving = find?.({ from, bytes, request, sent })
          if (from === "client") sent += bytes.length
          if (arriving !== undefined) {
            find = undefined
            wasCut = true
            destination.end(bytes.subarray(0, arriving), close)
          } else if (!destination.write(bytes)) {
            source.pause()
            destination.once("drain", () => frozen || source.resume())
          }
        })
      for (const socket of [client, upstream]) {
        sockets.add(socket)
        socket.setNoDelay().on("error", close).on("close", close)
      }
      forward("client", client, upstream)
      forward("server", upstream, client)
      if (frozen) for (const socket of [client, upstream]) socket.pause()
    })
    const each = (action: (socket: Net.Socket) => unknown) => {
      for (const socket of sockets) action(socket)
    }
    yield* Effect.acquireRelease(
      Effect.async<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
      () =>
        Effect.sync(() => {
          server.close()
          each((socket) => socket.destroy())
        })
    )
    const address = server.address()
    const through = new URL(url)
    through.host = `127.0.0.1:${typeof address === "object" ? address?.port : ""}`
    const proxy: Proxy = {
      url: through.href,
      cut: Effect.sync(() => each((socket) => socket.destroy())),
      cutNext: (finding) =>
        Effect.sync(() => {
          find = finding
          wasCut = false
        }),
      wasCut: Effect.sync(() => wasCut),
      freeze: (on) =>
        Effect.sync(() => {
          frozen = on
          each((socket) => (on ? socket.pause() : socket.resume()))
        })
    }
    return proxy
  })
