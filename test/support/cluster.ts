/**
 * Two ClickHouse servers that know each other as the cluster `events`, without a Keeper of their own to speak of: enough
 * for everything but replication, which the engine in the library cannot do because it serves no parts to others. Its
 * replicated tables stay read-only, as those of a server are that has lost Keeper.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import * as Http from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as EmbeddedClickHouse from "../../src/embedded/EmbeddedClickHouse.ts"
import { listen } from "./listen.ts"

/** `limited` has what a relay needs of one server, `granted` also what docs/operations.md says it needs of a cluster. */
const GRANTS = `
        <query>GRANT SELECT, INSERT ON default.event_log</query>
        <query>GRANT SELECT ON system.processes</query>
        <query>GRANT SELECT ON system.merge_tree_settings</query>
        <query>GRANT SELECT ON system.replicated_merge_tree_settings</query>
        <query>GRANT SHOW ROW POLICIES ON *.*</query>
        <query>GRANT SELECT ON system.replicas</query>
        <query>GRANT SELECT ON system.clusters</query>
`

const USERS = `
<clickhouse>
  <profiles><default/></profiles>
  <quotas><default/></quotas>
  <users>
    <default><password/><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota></default>
    <limited>
      <password/><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>
      <grants>${GRANTS}</grants>
    </limited>
    <granted>
      <password/><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>
      <grants>
        ${GRANTS}
        <query>GRANT SYSTEM SYNC REPLICA ON default.event_log</query>
        <query>GRANT REMOTE ON *.*</query>
      </grants>
    </granted>
  </users>
</clickhouse>
`

/** Sends a statement to a server and returns what it answers. */
export const send = (url: string, statement: string) =>
  Effect.promise(async () => {
    const response = await fetch(url, { method: "POST", body: statement })
    const text = await response.text()
    if (!response.ok) throw new Error(text)
    return text
  })

export const make = Effect.gen(function* () {
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "clickhouse-outbox-cluster-"))),
    (path) => Effect.sync(() => rmSync(path, { recursive: true }))
  )
  const users = join(folder, "users.xml")
  writeFileSync(users, USERS)
  const firstPort = yield* Random.nextIntBetween(12_000, 20_000)
  const ports = [firstPort, firstPort + 1]
  const replicas = Object.fromEntries(
    ports.map((port, n) => [`replica_${n}`, { host: "127.0.0.1", port, default_database: "default" }])
  )
  const start = (port: number) =>
    Effect.tap(
      EmbeddedClickHouse.make({
        settings: {
          users_config: users,
          zookeeper: { implementation: "testkeeper" },
          macros: { shard: "1", replica: String(port) },
          tcp_port: port,
          remote_servers: {
            events: { shard: { internal_replication: "true", ...replicas } },
            // Of which one server is away: nobody listens on port 1.
            half: { shard: { replica_0: { host: "127.0.0.1", port }, replica_1: { host: "127.0.0.1", port: 1 } } }
          },
          access_control_improvements: {
            select_from_system_db_requires_grant: "true",
            users_without_row_policies_can_read_rows: "true"
          }
        }
      }),
      ({ url }) => send(url, "SYSTEM START LISTEN TCP")
    )
  return yield* Effect.all([start(firstPort), start(firstPort + 1)], { concurrency: "unbounded" })
})

export interface Seen {
  readonly url: URL
  readonly body: string
}

/** What a server in between does with a request: answers it, or passes it on, perhaps with another statement. */
export type Route = (
  seen: Seen
) => { readonly status: number; readonly body: string } | { readonly to: string; readonly instead?: string }

/** An HTTP server in front of ClickHouse, until the scope closes. Returns its URL. `drops` are headers of answers. */
export const balancer = (route: Route, drops: ReadonlyArray<string> = []) =>
  Effect.gen(function* () {
    const server = Http.createServer((request, response) => {
      const chunks: Array<Buffer> = []
      request.on("data", (chunk) => chunks.push(chunk))
      request.on("end", () => {
        const body = Buffer.concat(chunks)
        const routed = route({ url: new URL(request.url ?? "/", "http://balancer"), body: body.toString() })
        if ("status" in routed) {
          const code = /Code: (\d+)/.exec(routed.body)?.[1]
          response.writeHead(routed.status, code === undefined ? {} : { "x-clickhouse-exception-code": code })
          response.end(routed.body)
          return
        }
        const { "content-length": _length, "transfer-encoding": _encoding, host: _host, ...headers } = request.headers
        const upstream = Http.request(new URL(request.url ?? "/", routed.to), { method: request.method, headers })
        upstream.on("response", (answer) => {
          const kept = Object.entries(answer.headers).filter(([name]) => !drops.includes(name))
          response.writeHead(answer.statusCode ?? 502, Object.fromEntries(kept))
          answer.pipe(response)
        })
        upstream.on("error", () => response.destroy())
        upstream.end(routed.instead ?? body)
      })
    })
    const port = yield* listen(server)
    return `http://127.0.0.1:${port}`
  })
