/**
 * pg-boss: a job for each event, fetched and completed in batches, which its documentation offers for throughput.
 * https://timgit.github.io/pg-boss/#/./api/jobs
 *
 * Jobs are created with SQL, as its documentation allows for those who do not use Node, in the application's
 * transaction. What is completed stays until its maintenance archives it, 12 hours later by default. Inserting and
 * completing are not one transaction: a worker that is killed in between sends its rows again when the job has expired.
 */
import { SqlClient } from "@effect/sql"
import { Effect } from "effect"
import PgBoss from "pg-boss"
import { SELECTED } from "../harness/Source.ts"
import { type Arena, type Contestant, startPrograms } from "./Contestant.ts"

export const QUEUE = "event"

/** Its own tables, by its own program. */
const migrate = (connectionString: string) =>
  Effect.tryPromise({
    try: async () => {
      const boss = new PgBoss({ connectionString, supervise: false, schedule: false })
      await boss.start()
      await boss.createQueue(QUEUE)
      await boss.stop({ graceful: false })
    },
    catch: (cause) => new Error("pg-boss cannot be set up", { cause })
  })

const prepare = ({ events, variables }: Arena) =>
  Effect.gen(function* () {
    yield* migrate(variables.DATABASE_URL)
    const sql = yield* SqlClient.SqlClient
    yield* sql.unsafe(`
      INSERT INTO pgboss.job (name, data)
      SELECT '${QUEUE}', to_jsonb(event)
      FROM (SELECT ${SELECTED} FROM bench.source WHERE position <= ${events} ORDER BY position) AS event`)
  })

export const contestants: ReadonlyArray<Contestant> = [1_000, 10_000].map((size) => ({
  name: "pg-boss",
  variant: `batches of ${size.toLocaleString("en")}, 2 processes`,
  about: "10.4: fetch with batchSize, JSONEachRow, complete with all ids",
  schema: "pgboss",
  most: [20_000, 200_000],
  prepare,
  start: (arena) => startPrograms("pg-boss", "pgBoss", 2, arena, { BATCH: String(size) })
}))
