/** Fetches, inserts and completes batches, until there is none. */
import PgBoss from "pg-boss"
import { begin, clickHouse, databaseUrl, insert, type Row, variable } from "./program.ts"

const QUEUE = "event"
const batchSize = Number(variable("BATCH"))

const boss = new PgBoss({ connectionString: databaseUrl, schedule: false })
boss.on("error", (error) => {
  throw error
})
await boss.start()
await begin()
for (;;) {
  // All have the same priority, and are due: that spares it a sort and a comparison.
  const jobs = await boss.fetch<Row>(QUEUE, { batchSize, priority: false, ignoreStartAfter: true })
  if (jobs.length === 0) break
  await insert(jobs.map(({ data }) => data))
  await boss.complete(
    QUEUE,
    jobs.map(({ id }) => id)
  )
}
await boss.stop({ graceful: false })
await clickHouse.close()
