/**
 * ClickHouse in a process of its own, which ends when standard input closes; see `ServerProcess.ts`.
 *
 *     clickHouseChild <libchdb.so> <data directory> <port> <contents of config.xml>
 *
 * `libchdb.so` holds the engine as `clickhouse local` has it: it runs queries until they end. So it is given one that
 * opens the HTTP server and one without an end. ClickHouse watches the limits of its thread's stack, so the call must
 * not go through a stack of its own as `koffi` makes it; `ffi-rs` calls straight, here from a thread of Node's pool.
 *
 * @internal
 */
import { randomUUID } from "node:crypto"
import { writeFileSync } from "node:fs"
import { setTimeout } from "node:timers/promises"
import { DataType, isNullPointer, load, open, restorePointer, wrapPointer } from "ffi-rs"

const [library = "", dataDir = "", port = "", config = ""] = process.argv.slice(2)

/** Tells this server from another one on the same port. */
const id = randomUUID()

/** Returns only when ClickHouse has failed, with its reason. */
const run = async (): Promise<string> => {
  writeFileSync(`${dataDir}/config.xml`, config)
  open({ library: "chdb", path: library })
  const args = [
    "clickhouse",
    `--config-file=${dataDir}/config.xml`,
    `--query=
      SYSTEM START LISTEN HTTP;
      SELECT sleepEachRow(0.1), '${id}' FROM system.numbers SETTINGS max_block_size = 1 FORMAT Null`
  ]
  // struct local_result_v2* query_stable_v2(int argc, char** argv)
  const { error } = await load({
    library: "chdb",
    funcName: "query_stable_v2",
    runInNewThread: true,
    paramsType: [DataType.I32, DataType.StringArray],
    paramsValue: [args.length, args],
    retType: {
      buffer: DataType.External,
      length: DataType.U64,
      vector: DataType.External,
      elapsed: DataType.Double,
      rowsRead: DataType.U64,
      bytesRead: DataType.U64,
      error: DataType.External
    }
  })
  // Some reasons are returned, others are in the log already; to read a null pointer as text would crash.
  return isNullPointer(error)
    ? "ClickHouse has ended"
    : restorePointer({ retType: [DataType.String], paramsValue: wrapPointer([error]) }).join()
}

const ask = async (query: string): Promise<string> => {
  const response = await fetch(`http://127.0.0.1:${port}`, { method: "POST", body: query })
  return response.text()
}

const reportReady = async (): Promise<void> => {
  const query = `SELECT count() FROM system.processes WHERE http_method = 0 AND query LIKE '%${id}%'`
  while ((await ask(query).catch(() => "")) !== "1\n") await setTimeout(20)
  process.stdout.write(`${process.pid}\n`)
}

/**
 * What ClickHouse has acknowledged is on disk, so only requests that still run are waited for, and not for ever. An
 * orderly end of the call would wait for clients to close their idle connections.
 */
const stop = async (): Promise<void> => {
  const end = () => process.kill(process.pid, "SIGKILL")
  setTimeout(5_000).then(end)
  const query = "SELECT count() - 1 FROM system.processes WHERE http_method != 0"
  while ((await ask(query).catch(() => "0\n")) !== "0\n") await setTimeout(20)
  end()
}

process.stdin.once("end", stop).resume()
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.once(signal, stop)
reportReady()
run()
  .catch(String)
  .then((reason) => process.stderr.write(`${reason}\n`, () => process.exit(1)))
