/** Posts files one after the other, each as one insert with ClickHouse's own settings. */
import { createReadStream } from "node:fs"
import { COLUMNS } from "../../harness/Source.ts"
import { begin, clickHouse, variable } from "./program.ts"

const files: ReadonlyArray<string> = JSON.parse(variable("FILES"))

await begin()
for (const file of files) {
  const { stream } = await clickHouse.exec({
    query: `INSERT INTO event_log (${COLUMNS}) FORMAT TabSeparated`,
    values: createReadStream(file, { highWaterMark: 1 << 20 }),
    clickhouse_settings: { async_insert: 0 }
  })
  await stream.toArray()
}
await clickHouse.close()
