/**
 * A business transaction that writes a row, by 8 clients of pgbench, which takes little of the processor that it shares
 * with the server: without an event, with the event as a row of a plain table, and with `outbox.publish`. The last two
 * make the same number of round trips. Once with Postgres' defaults, where a commit waits for the disk, and once with
 * `synchronous_commit = off`, where nothing hides what the statements cost.
 */
import { spawn } from "node:child_process"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect } from "effect"
import { Flawed } from "../harness/Flawed.ts"
import { CONTEXT, TYPE } from "./tables.ts"

export const KINDS = ["no event", "plain table", "outbox.publish"] as const
export type Kind = (typeof KINDS)[number]

const CLIENTS = 8

/** A colon and a word behind it would be a variable of pgbench. */
const context = JSON.stringify(CONTEXT).replaceAll(":", ": ")

const EVENT: Readonly<Record<Kind, string>> = {
  "no event": "",
  "plain table": `INSERT INTO app.event (event_type, event_context) VALUES ('${TYPE}', '${context}');`,
  "outbox.publish": `SELECT outbox.publish('${TYPE}', '${context}');`
}

const run = (args: ReadonlyArray<string>, variables: Readonly<Record<string, string>>) =>
  Effect.async<string, Flawed>((resume) => {
    const child = spawn("pgbench", args, {
      env: { PATH: process.env.PATH, ...variables },
      stdio: ["ignore", "pipe", "pipe"]
    })
    const written: Array<string> = []
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => written.push(String(chunk)))
    child.once("error", (error) => resume(new Flawed({ run: "pgbench", what: error.message })))
    child.once("close", (code) =>
      resume(
        code === 0
          ? Effect.succeed(written.join(""))
          : new Flawed({ run: "pgbench", what: written.join("").slice(-1_000) })
      )
    )
    return Effect.sync(() => child.kill("SIGTERM"))
  })

/** Debian has it in postgresql-contrib. Any version will do: it is only a client. */
export const isInstalled = Effect.isSuccess(run(["--version"], {}))

/** Transactions per second. */
export const measure = (url: string, kind: Kind, seconds: number, synchronousCommit: "on" | "off") =>
  Effect.gen(function* () {
    const directory = yield* Effect.acquireRelease(
      Effect.promise(() => mkdtemp(join(tmpdir(), "clickhouse-outbox-pgbench-"))),
      (directory) => Effect.promise(() => rm(directory, { recursive: true, force: true }))
    )
    const file = join(directory, "transaction.sql")
    const script = [
      "BEGIN;",
      "INSERT INTO app.users (email, plan) VALUES ('ada@example.com', 'free');",
      EVENT[kind],
      "COMMIT;"
    ]
    yield* Effect.promise(() => writeFile(file, `${script.filter(Boolean).join("\n")}\n`))
    const { host, hostname, pathname, port, username } = new URL(url)
    const output = yield* run(
      [
        ...["--no-vacuum", "--protocol=prepared", `--file=${file}`],
        ...[`--client=${CLIENTS}`, "--jobs=1", `--time=${seconds}`],
        ...[`--host=${hostname}`, `--port=${port}`, `--username=${username}`, pathname.slice(1)]
      ],
      { PGOPTIONS: `-c synchronous_commit=${synchronousCommit}` }
    )
    const rate = Number(/tps = ([\d.]+)/.exec(output)?.[1])
    const failed = Number(/number of failed transactions: (\d+)/.exec(output)?.[1] ?? 0)
    if (!Number.isFinite(rate) || failed > 0) yield* new Flawed({ run: `pgbench at ${host}`, what: output })
    return rate
  }).pipe(Effect.scoped)
