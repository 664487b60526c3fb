/**
 * Publishes as fast as it can, each event in a transaction of its own. Prints when each transaction began, in
 * milliseconds of the machine's clock since `origin`, and how long it took, as JSON.
 */
import { once } from "node:events"
import pg from "pg"
import { APPLICATION, FIRST, PUBLISH } from "../event.ts"

const SECONDS = Number(process.env.SECONDS)
const CONNECTIONS = 8

const clients = Array.from(
  { length: CONNECTIONS },
  () => new pg.Client({ connectionString: process.env.DATABASE_URL, application_name: APPLICATION })
)
await Promise.all(clients.map((client) => client.connect()))
process.stdout.write("ready\n")
await once(process.stdin, "data")
process.stdin.destroy()

const begun: Array<number> = []
const took: Array<number> = []
const origin = performance.now()
const tenths = (millis: number) => Math.round(millis * 10) / 10

const publish = async (client: pg.Client) => {
  for (let begin = origin; begin < origin + SECONDS * 1_000; begin = performance.now()) {
    // Each event has a version of its own, by which it is found again in ClickHouse.
    const number = begun.push(tenths(begin - origin))
    await client.query({ name: "publish", text: PUBLISH, values: [FIRST + number] })
    took[number - 1] = tenths(performance.now() - begin)
  }
  await client.end()
}

await Promise.all(clients.map(publish))
process.stdout.write(`${JSON.stringify({ origin: performance.timeOrigin + origin, begun, took })}\n`)
