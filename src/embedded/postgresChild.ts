/**
 * The process that owns Postgres, and stops it when standard input closes; see `ServerProcess.ts`.
 *
 *     postgresChild <postgres> <data directory> <uid:gid or ""> <arguments of postgres...>
 *
 * @internal
 */
import { spawn } from "node:child_process"
import { readFileSync } from "node:fs"

const [postgres = "", dataDir = "", account = "", ...args] = process.argv.slice(2)
const [uid, gid] = account === "" ? [] : account.split(":").map(Number)

const server = spawn(postgres, ["-D", dataDir, ...args], {
  // This process's own folder may be closed to the account.
  cwd: "/",
  stdio: ["ignore", 2, 2],
  ...(uid !== undefined && gid !== undefined && { uid, gid })
})
server.once("error", (error) => process.stderr.write(`${error.message}\n`, () => process.exit(1)))
server.once("exit", (code) => process.exit(code ?? 1))

/** The first line of this file is the server's process id, the last its state; an old one may be left by a crash. */
const isReady = (): boolean => {
  try {
    const lines = readFileSync(`${dataDir}/postmaster.pid`, "utf8").split("\n")
    return lines[0] === String(server.pid) && lines[7]?.trim() === "ready"
  } catch {
    return false
  }
}

const ready = setInterval(() => {
  if (!isReady()) return
  clearInterval(ready)
  process.stdout.write(`${server.pid}\n`)
}, 10)

/** Connections are closed and data is flushed; if that takes too long, the next start recovers what was committed. */
const stop = (): void => {
  server.kill("SIGINT")
  setTimeout(() => server.kill("SIGQUIT"), 6_000)
  setTimeout(() => server.kill("SIGKILL"), 10_000)
}

process.stdin.once("end", stop).resume()
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.once(signal, stop)
