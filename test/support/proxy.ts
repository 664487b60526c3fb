/** A TCP proxy, to break what lies between a relay and a database. */
import * as Net from "node:net"
import * as Effect from "effect/Effect"

/** What to do with a connection that was cut: say so to both ends, as a crashed host would not. */
export interface Proxy {
  /** The same URL, through the proxy. */
  readonly url: string
  /** Cuts all connections. New ones are let through. */
  readonly cut: Effect.Effect<void>
  /** From now on cuts the connection on which the client's bytes match, in place of letting them through. */
  readonly cutBefore: (matches: (bytes: Buffer) => boolean) => Effect.Effect<void>
  /** Bytes go nowhere, either way, and nobody is told. */
  readonly freeze: Effect.Effect<void>
  readonly thaw: Effect.Effect<void>
  /** How many connections were cut on a match. */
  readonly cuts: Effect.Effect<number>
}

/** A proxy in front of the server that `url` names, until the scope closes. */
export const make = (url: string) =>
  Effect.gen(function* () {
    const target = new URL(url)
    const pairs = new Set<readonly [Net.Socket, Net.Socket]>()
    let matches = (_: Buffer): boolean => false
    let cuts = 0

    const server = Net.createServer({ allowHalfOpen: true }, (client) => {
      const upstream = Net.connect({ host: target.hostname, port: Number(target.port), allowHalfOpen: true })
      const pair = [client, upstream] as const
      pairs.add(pair)
      const end = () => {
        pairs.delete(pair)
        for (const socket of pair) socket.destroy()
      }
      for (const socket of pair) socket.setNoDelay().on("error", end).on("close", end)
      client.on("data", (bytes) => {
        if (matches(bytes)) {
          cuts++
          end()
        } else if (!upstream.write(bytes)) {
          client.pause()
          upstream.once("drain", () => client.resume())
        }
      })
      client.on("end", () => upstream.end())
      upstream.pipe(client)
    })
    yield* Effect.acquireRelease(
      Effect.async<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
      () =>
        Effect.sync(() => {
          server.close()
          for (const pair of pairs) for (const socket of pair) socket.destroy()
        })
    )
    const address = server.address()
    const through = new URL(url)
    through.host = `127.0.0.1:${typeof address === "object" ? address?.port : ""}`
    const each = (action: (socket: Net.Socket) => unknown) =>
      Effect.sync(() => {
        for (const pair of pairs) for (const socket of pair) action(socket)
      })
    const proxy: Proxy = {
      url: through.href,
      cut: each((socket) => socket.destroy()),
      cutBefore: (predicate) =>
        Effect.sync(() => {
          matches = predicate
        }),
      freeze: each((socket) => socket.pause()),
      thaw: each((socket) => socket.resume()),
      cuts: Effect.sync(() => cuts)
    }
    return proxy
  })
