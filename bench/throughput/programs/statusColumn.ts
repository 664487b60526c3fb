/** Claims, inserts and marks, until nothing is pending that others have not claimed. */
import pg from "pg"
import { SELECTED } from "../../harness/Source.ts"
import { begin, clickHouse, databaseUrl, insert, variable } from "./program.ts"

const size = Number(variable("BATCH"))
const client = new pg.Client(databaseUrl)

const claim = async () =>
  (
    await client.query({
      name: "claim",
      text: `
        SELECT id, ${SELECTED}
        FROM app.outbox
        WHERE status = 'pending'
        ORDER BY id
        LIMIT $1
        FOR UPDATE SKIP LOCKED`,
      values: [size]
    })
  ).rows

await client.connect()
await begin()
for (;;) {
  await client.query("BEGIN")
  const rows = await claim()
  if (rows.length === 0) break
  await insert(rows)
  await client.query({
    name: "mark",
    text: "UPDATE app.outbox SET status = 'sent', sent_at = now() WHERE id = ANY ($1::bigint[])",
    values: [rows.map(({ id }) => id)]
  })
  await client.query("COMMIT")
}
await client.query("COMMIT")
await client.end()
await clickHouse.close()
