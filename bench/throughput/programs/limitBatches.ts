/** Posts files two at a time through the relay's own sink: what the relay would do if Postgres were a disk. */
import { randomUUID } from "node:crypto"
import { createReadStream } from "node:fs"
import * as NodeStream from "@effect/platform-node/NodeStream"
import { ClickHouse, ClickHouseSink } from "clickhouse-outbox"
import { Effect, Layer } from "effect"
import { begin, clickHouse, variable } from "./program.ts"

const files: ReadonlyArray<string> = JSON.parse(variable("FILES"))

const read = (file: string) =>
  NodeStream.fromReadable<Error, Uint8Array>(
    () => createReadStream(file),
    (cause) => new Error(String(cause))
  )

await Effect.gen(function* () {
  const sink = yield* ClickHouseSink.ClickHouseSink
  yield* sink.check
  yield* Effect.promise(begin)
  yield* Effect.forEach(files, (file) => sink.insert({ token: randomUUID(), eventCount: 0, rows: read(file) }), {
    concurrency: 2,
    discard: true
  })
}).pipe(Effect.provide(Layer.provide(ClickHouseSink.layerConfig, ClickHouse.layerConfig)), Effect.runPromise)
await clickHouse.close()
