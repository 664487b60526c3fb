/**
 * Publishes at an even rate, each event in a transaction of its own, whether or not earlier ones are done. Prints when
 * each was committed, in milliseconds of the machine's clock, as JSON.
 */
import { once } from "node:events"
import { setTimeout } from "node:timers/promises"
import pg from "pg"

const RATE = Number(process.env.RATE)
const EVENTS = Number(process.env.EVENTS)
const FIRST = Number(process.env.FIRST)
const CONNECTIONS = 8
/** Timers are not finer. */
const STEP_MILLIS = 10

const now = () => performance.timeOrigin + performance.now()

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: CONNECTIONS, min: CONNECTIONS })

/** Each event has a version of its own, by which it is found again in ClickHouse. */
const publish = async (number: number) => {
  await pool.query({
    name: "publish",
    text: `SELECT outbox.publish('tick', '{"sequence": 1, "user": {"country": "DE", "plan": "pro"}}', metadata_version => $1)`,
    values: [FIRST + number]
  })
  return now()
}

await Promise.all(Array.from({ length: CONNECTIONS }, () => pool.query("SELECT pg_sleep(0.05)")))
process.stdout.write("ready\n")
await once(process.stdin, "data")
process.stdin.destroy()

const committed: Array<Promise<number>> = []
const begun = now()
while (committed.length < EVENTS) {
  const due = Math.min(EVENTS, Math.floor(((now() - begun) / 1_000) * RATE))
  while (committed.length < due) committed.push(publish(committed.length))
  await setTimeout(STEP_MILLIS)
}
const times = await Promise.all(committed)
await pool.end()
process.stdout.write(`${JSON.stringify(times)}\n`)
