/** Certificates of an authority of the test's own, and servers that have them. */
import { chmodSync, chownSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import * as Net from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Tls from "node:tls"
import * as Effect from "effect/Effect"
import { generate } from "selfsigned"
import * as Account from "../../src/embedded/Account.ts"
import { listen } from "./listen.ts"

export interface Certificate {
  /** PEM. */
  readonly key: string
  readonly cert: string
}

const DAY = 86_400_000

const from = (days: number) => new Date(Date.now() + days * DAY)

const make = (options: Parameters<typeof generate>[1], name: string): Effect.Effect<Certificate> =>
  Effect.promise(async () => {
    const { cert, private: key } = await generate([{ name: "commonName", value: name }], {
      keyType: "ec",
      algorithm: "sha256",
      notBeforeDate: from(-2),
      notAfterDate: from(1),
      ...options
    })
    return { key, cert }
  })

/** An authority that nobody knows yet. */
export const authority = make(
  {
    extensions: [
      { name: "basicConstraints", cA: true, critical: true },
      { name: "keyUsage", keyCertSign: true, cRLSign: true, critical: true }
    ]
  },
  "An authority of the tests"
)

const LOOPBACK = { type: 7, ip: "127.0.0.1" } as const

/** Of a server with this name, and on 127.0.0.1 if that is `localhost`. */
export const ofServer = (ca: Certificate, name = "localhost", expired = false) =>
  make(
    {
      ca,
      notAfterDate: from(expired ? -1 : 1),
      extensions: [
        { name: "basicConstraints", cA: false },
        { name: "extKeyUsage", serverAuth: true },
        {
          name: "subjectAltName",
          altNames: [{ type: 2, value: name }, ...(name === "localhost" ? [LOOPBACK] : [])]
        }
      ]
    },
    name
  )

/** Files in a folder of their own, which Postgres' account owns and can read, until the scope closes. */
export const files = (contents: Readonly<Record<string, string>>) =>
  Effect.gen(function* () {
    const account = yield* Effect.orDie(Account.find)
    const folder = yield* Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "clickhouse-outbox-tls-"))),
      (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
    )
    chmodSync(folder, 0o755)
    for (const [name, content] of Object.entries(contents)) {
      writeFileSync(join(folder, name), content, { mode: 0o600 })
      if (account !== undefined) chownSync(join(folder, name), account.uid, account.gid)
    }
    return (name: string) => join(folder, name)
  })

/** What a client of Postgres sends first when it wants TLS. */
const SSL_REQUEST_BYTES = 8

/** Postgres' yes to it. */
const YES = "S"

/**
 * Ends TLS in front of the server that `url` names, until the scope closes, and returns its own URL. `upgrading` is how
 * Postgres does it: the client asks in plain text first.
 */
export const terminate = (url: string, { cert, key }: Certificate, upgrading = false) =>
  Effect.gen(function* () {
    const target = new URL(url)
    const context = Tls.createSecureContext({ cert, key })
    const forward = (socket: Net.Socket) => {
      const secure = new Tls.TLSSocket(socket, { isServer: true, secureContext: context })
      const upstream = Net.connect({ host: target.hostname, port: Number(target.port) })
      for (const each of [secure, upstream]) {
        each
          .on("error", () => {})
          .on("close", () => {
            secure.destroy()
            upstream.destroy()
          })
      }
      secure.pipe(upstream).pipe(secure)
    }
    const server = Net.createServer((socket) => {
      socket.on("error", () => {})
      if (!upgrading) return forward(socket)
      socket.once("readable", () => {
        socket.read(SSL_REQUEST_BYTES)
        socket.write(YES, () => forward(socket))
      })
    })
    const port = yield* listen(server)
    const secure = new URL(url.replace(/^http:/, "https:"))
    secure.hostname = "localhost"
    secure.port = String(port)
    return secure.href
  })
