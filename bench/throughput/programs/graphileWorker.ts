/** Runs jobs until it is told to stop. */
import { Logger, run } from "graphile-worker"
import { begin, clickHouse, collector, databaseUrl, type Row, variable } from "./program.ts"

const jobsAtATime = Number(variable("JOBS_AT_A_TIME"))

const collect = collector(jobsAtATime, 10)
const isRow = (payload: unknown): payload is Row => typeof payload === "object" && payload !== null

await begin()
const runner = await run({
  preset: {
    worker: {
      connectionString: databaseUrl,
      concurrentJobs: jobsAtATime,
      // The highest of its page; a larger queue than jobs at a time keeps these busy while it fetches.
      localQueue: { size: 5 * jobsAtATime },
      completeJobBatchDelay: 0,
      failJobBatchDelay: 0,
      maxPoolSize: 25,
      logger: new Logger(() => () => {})
    }
  },
  taskList: {
    event: async (payload) => {
      if (!isRow(payload)) throw new Error("A job without an event")
      await collect(payload)
    }
  }
})
await runner.promise
await clickHouse.close()
