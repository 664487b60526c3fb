/** A TCP proxy, to break what lies between a relay and a database. */
import * as Net from "node:net"
import * as Effect from "effect/Effect"
import { listen } from "./listen.ts"

/** Bytes on their way through a connection. */
export interface Passing {
  readonly from: "client" | "server"
  readonly bytes: Buffer
  /** First line of the HTTP request that the connection is busy with. */
  readonly request: string
  /** How many bytes of that request have passed before these. */
  readonly sent: number
  /** Tells connections apart. */
  readonly connection: number
}

/** What becomes of passing bytes. */
export interface Interference {
  /** How many of them still arrive. */
  readonly arriving: number
  /**
   * What becomes of the connection then. `silence`: nothing passes any more, and nobody is told; `hold`: what the client
   * sends from here on arrives when it is let go, though the client may have left; `reply`: whoever sent them is told
   * this, as if by the other, and sees the connection end.
   */
  readonly next: "continue" | "cut" | "reset" | "silence" | "pause" | { readonly reply: string }
}

export interface Proxy {
  /** The server's URL, through the proxy. */
  readonly url: string
  /** Cuts all connections. New ones are let through. */
  readonly cut: Effect.Effect<void>
  /** Likewise, with a reset (RST) for both ends. */
  readonly reset: Effect.Effect<void>
  /** Looks at all that passes, from now on, and may interfere. */
  readonly watch: (look: (passing: Passing) => Interference | undefined) => Effect.Effect<void>
  /**
   * Cuts the next connection for which `find` gives a number: of the bytes that are passing so many still arrive, then
   * both ends see the connection end. Other connections are let through.
   */
  readonly cutNext: (find: (passing: Passing) => number | undefined) => Effect.Effect<void>
  /** Whether {@link cutNext} has cut. */
  readonly wasCut: Effect.Effect<boolean>
  /** Whether bytes go nowhere, with nobody told, as when a host or a network is lost. */
  readonly freeze: (frozen: boolean) => Effect.Effect<void>
  /** Lets go what is held, and waits until the server is done with it. Returns how many connections that was. */
  readonly letGo: Effect.Effect<number>
  /** So many bytes a second pass in each direction of a connection; any number if none is given. */
  readonly slow: (bytesPerSecond?: number) => Effect.Effect<void>
}

/** A proxy in front of the server that `url` names, until the scope closes. */
export const make = (url: string) =>
  Effect.gen(function* () {
    const target = new URL(url)
    const sockets = new Set<Net.Socket>()
    let look: ((passing: Passing) => Interference | undefined) | undefined
    let find: ((passing: Passing) => number | undefined) | undefined
    let wasCut = false
    let frozen = false
    let rate: number | undefined
    let connections = 0
    let held: ReadonlyArray<() => Promise<void>> = []

    const interfere = (passing: Passing): Interference | undefined => {
      const arriving = find?.(passing)
      if (arriving === undefined) return look?.(passing)
      find = undefined
      wasCut = true
      return { arriving, next: "cut" }
    }

    const server = Net.createServer((client) => {
      const upstream = Net.connect({ host: target.hostname, port: Number(target.port) })
      const connection = ++connections
      let request = ""
      let sent = 0
      let silent = false
      let late: Array<Buffer> | undefined
      const close = () => {
        if (late !== undefined) return
        for (const socket of [client, upstream]) {
          sockets.delete(socket)
          socket.destroy()
        }
      }
      const forward = (from: Passing["from"], source: Net.Socket, destination: Net.Socket) => {
        const resume = () => frozen || source.resume()
        const pass = (bytes: Buffer) => {
          const flushed = destination.write(bytes)
          if (rate !== undefined) {
            source.pause()
            setTimeout(resume, (bytes.length / rate) * 1_000)
          } else if (!flushed) {
            source.pause()
            destination.once("drain", resume)
          }
        }
        source.on("data", (bytes) => {
          if (late !== undefined) return from === "client" && late.push(bytes)
          if (silent) return
          if (from === "client" && /^(GET|POST) /.test(bytes.toString("latin1", 0, 5))) {
            request = bytes.toString("latin1").split("\r\n", 1)[0] ?? ""
            sent = 0
          }
          const interference = interfere({ from, bytes, request, sent, connection })
          if (from === "client") sent += bytes.length
          if (interference === undefined) return pass(bytes)
          const arriving = bytes.subarray(0, interference.arriving)
          if (interference.next === "continue") return pass(arriving)
          if (interference.next === "pause") {
            const rest = [bytes.subarray(interference.arriving)]
            late = rest
            held = [
              ...held,
              () =>
                new Promise((resolve) => {
                  destination.once("close", () => resolve()).end(Buffer.concat(rest))
                })
            ]
            return pass(arriving)
          }
          silent = true
          if (interference.next === "cut") destination.end(arriving, close)
          else if (interference.next === "silence") destination.write(arriving)
          else if (interference.next === "reset") {
            destination.write(arriving, () => {
              for (const socket of [client, upstream]) socket.resetAndDestroy()
            })
          } else {
            destination.write(arriving)
            source.end(interference.next.reply, close)
          }
        })
      }
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
    const port = yield* listen(server)
    // Also those to the other side that wait to be let go.
    yield* Effect.addFinalizer(() => Effect.sync(() => each((socket) => socket.destroy())))
    const through = new URL(url)
    through.host = `127.0.0.1:${port}`
    const proxy: Proxy = {
      url: through.href,
      cut: Effect.sync(() => each((socket) => socket.destroy())),
      reset: Effect.sync(() => each((socket) => socket.resetAndDestroy())),
      watch: (looking) =>
        Effect.sync(() => {
          look = looking
        }),
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
        }),
      letGo: Effect.map(
        Effect.promise(() => Promise.all(held.map((go) => go()))),
        (all) => all.length
      ),
      slow: (bytesPerSecond) =>
        Effect.sync(() => {
          rate = bytesPerSecond
        })
    }
    return proxy
  })
