/**
 * graphile-worker: a job for each event, with the settings that its page on performance recommends: a local queue, and
 * completions in batches. https://worker.graphile.org/docs/performance
 *
 * It runs jobs one by one, so its tasks hand their event to a collector, which inserts when 1,000 have come together:
 * hence so many jobs at a time; 5,000 were not faster. It deletes a job that is done. Done and inserted are not one
 * transaction: a worker that is killed in between runs its jobs again, four hours later by default.
 */
import { SqlClient } from "@effect/sql"
import { Effect } from "effect"
import { runMigrations } from "graphile-worker"
import { SELECTED } from "../harness/Source.ts"
import { type Arena, type Contestant, startPrograms } from "./Contestant.ts"

const JOBS_AT_A_TIME = 1_000

const migrate = (connectionString: string) =>
  Effect.tryPromise({
    try: () => runMigrations({ connectionString }),
    catch: (cause) => new Error("graphile-worker cannot be set up", { cause })
  })

const prepare = ({ events, variables }: Arena) =>
  Effect.gen(function* () {
    yield* migrate(variables.DATABASE_URL)
    const sql = yield* SqlClient.SqlClient
    yield* sql.unsafe(`
      SELECT count(*)
      FROM generate_series(0, ${events} - 1, 1000) AS first,
      LATERAL graphile_worker.add_jobs(ARRAY(
        SELECT ('event', to_json(event), NULL, NULL, NULL, NULL, NULL, NULL)::graphile_worker.job_spec
        FROM (
          SELECT ${SELECTED}
          FROM bench.source
          WHERE position > first AND position <= least(first + 1000, ${events})
          ORDER BY position
        ) AS event
      )) AS job`)
  })

export const contestants: ReadonlyArray<Contestant> = [
  {
    name: "graphile-worker",
    variant: `${JOBS_AT_A_TIME.toLocaleString("en")} jobs at a time, 2 processes`,
    about: "0.17: local queue, batched completion, a collector in the task",
    schema: "graphile_worker",
    most: [20_000, 200_000],
    prepare,
    start: (arena) =>
      startPrograms("graphile-worker", "graphileWorker", 2, arena, { JOBS_AT_A_TIME: String(JOBS_AT_A_TIME) }).pipe(
        Effect.map((started) => ({ ...started, ends: false }))
      )
  }
]
