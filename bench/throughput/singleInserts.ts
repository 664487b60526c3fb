/** An application without any outbox: each event is a request of its own. */
import { randomUUID } from "node:crypto"
import { ClickHouse } from "clickhouse-outbox"
import { Effect } from "effect"
import { type Contestant, startPrograms } from "./Contestant.ts"

const single = { schema: undefined, prepare: () => Effect.void }

const MOST = [500, 10_000] as const
const MOST_ASYNC = [2_000, 20_000] as const

/** Long enough for a look at the table. */
const QUEUED = `
  async_insert = 1, wait_for_async_insert = 0,
  async_insert_use_adaptive_busy_timeout = 0, async_insert_busy_timeout_max_ms = 5000`

/**
 * The engine from npm has no queue for asynchronous inserts, like `clickhouse local`: it accepts the setting and inserts
 * each at once, which would measure something else.
 */
const collects = Effect.gen(function* () {
  const { command, query } = yield* ClickHouse.ClickHouse
  const table = `async_${randomUUID().replaceAll("-", "")}`
  yield* command(`CREATE TABLE ${table} (n UInt8) ENGINE = MergeTree ORDER BY n`)
  yield* command(`INSERT INTO ${table} SETTINGS ${QUEUED} VALUES (1)`)
  const [row] = yield* query(`SELECT count() FROM ${table}`)
  yield* command(`DROP TABLE ${table} SYNC`)
  if (Number(row?.[0]) > 0)
    yield* Effect.fail(new Error("the embedded ClickHouse does not collect asynchronous inserts"))
})

export const contestants: ReadonlyArray<Contestant> = [
  {
    ...single,
    name: "one insert per event",
    variant: "8 at a time",
    about: "rows read from Postgres in pages, each inserted alone; nothing is marked",
    most: MOST,
    start: (arena) => startPrograms("one insert per event", "insertEach", 1, arena)
  },
  ...[1, 0].map(
    (wait): Contestant => ({
      ...single,
      name: "async_insert",
      variant: `wait_for_async_insert=${wait}, 32 at a time`,
      about:
        wait === 1
          ? "events in memory, no outbox: a crash between COMMIT and the insert loses them"
          : "events in memory, no outbox: refused or lost events are not even reported",
      most: MOST_ASYNC,
      check: () => collects,
      start: (arena) => startPrograms("async_insert", "asyncInsert", 1, arena, { WAIT: String(wait) })
    })
  )
]
