/** Reads pages of rows, and inserts each row alone. */
import pg from "pg"
import { SELECTED } from "../../harness/Source.ts"
import { begin, clickHouse, databaseUrl, events, forEach, insert } from "./program.ts"

const PAGE = 1_000

const client = new pg.Client(databaseUrl)
await client.connect()
await begin()
for (let after = 0; after < events; after += PAGE) {
  const { rows } = await client.query({
    name: "page",
    text: `SELECT ${SELECTED} FROM bench.source WHERE position > $1 AND position <= $2 ORDER BY position`,
    values: [after, Math.min(after + PAGE, events)]
  })
  await forEach(rows, 8, (row) => insert([row]))
}
await client.end()
await clickHouse.close()
