/**
 * Throughput: events are committed in Postgres, in the contestant's own table, and the time is until all are in
 * ClickHouse, in the same table for all.
 *
 * The clock starts when a contestant's programs are up and connected, and stops when ClickHouse says that it has as many
 * rows as there are events, asked every 20 ms towards the end. Then every event must be there once, with every column as
 * it was, or the run is an error and not a time. Each run has databases of its own. A round has one run of each, in
 * random order; a first one is not counted.
 */
import { SqlClient } from "@effect/sql"
import { ClickHouse } from "clickhouse-outbox"
import { Console, Effect, Fiber } from "effect"
import * as Databases from "./databases.ts"
import { Flawed, orError } from "./harness/Flawed.ts"
import * as Meter from "./harness/meter.ts"
import { contents, type Source } from "./harness/Source.ts"
import { fixed, whole } from "./harness/table.ts"
import type { Arena, Contestant, Started } from "./throughput/Contestant.ts"
import * as clickhouseOutbox from "./throughput/clickhouseOutbox.ts"
import * as graphileWorker from "./throughput/graphileWorker.ts"
import * as limit from "./throughput/limit.ts"
import * as pgBoss from "./throughput/pgBoss.ts"
import * as pgTransactionalOutbox from "./throughput/pgTransactionalOutbox.ts"
import * as postgresql from "./throughput/postgresql.ts"
import * as singleInserts from "./throughput/singleInserts.ts"
import * as statusColumn from "./throughput/statusColumn.ts"

export const contestants: ReadonlyArray<Contestant> = [
  ...[limit, clickhouseOutbox, postgresql, statusColumn].flatMap(({ contestants }) => contestants),
  ...[pgBoss, graphileWorker, pgTransactionalOutbox, singleInserts].flatMap(({ contestants }) => contestants)
]

export interface Run extends Meter.Costs {
  readonly name: string
  readonly variant: string
  readonly round: number
  readonly events: number
  /** Bytes of WAL while the events were written; NaN where none were, or not apart from the rest. */
  readonly walBytesOfPublishing: number
  /** Bytes on disk when all has been carried: the contestant's schema, and `event_log`. */
  readonly diskBytes: { readonly postgres: number; readonly clickHouse: number }
}

/** The answer of a query for one number. */
const count = Effect.flatMap(ClickHouse.ClickHouse, (clickHouse) =>
  clickHouse.query("SELECT toUInt32(count()) FROM event_log")
).pipe(Effect.map(([row]) => Number(row?.[0])))

/** A question takes ClickHouse most of a millisecond, so it is asked often only towards the end. */
const NEARLY = 0.5

/** A contestant that has not carried everything by then never will. */
const LIMIT = "30 minutes"

/** Waits until ClickHouse has so many rows. Fails as soon as a program fails or ends early. */
const untilCarried = (run: string, { go, programs }: Started, events: number, look: Effect.Effect<void>) =>
  Effect.gen(function* () {
    const going = yield* Effect.fork(go)
    const arrived = Effect.zipRight(look, count).pipe(
      Effect.tap((rows) => Effect.sleep(rows < NEARLY * events ? "100 millis" : rows < events ? "20 millis" : 0)),
      Effect.repeat({ until: (rows) => rows >= events })
    )
    const broken = Effect.all([Fiber.join(going), ...programs.map(({ finished }) => finished)], {
      concurrency: "unbounded",
      discard: true
    })
    yield* Effect.raceFirst(arrived, Effect.zipRight(broken, Effect.never)).pipe(
      Effect.timeoutFail({
        duration: LIMIT,
        onTimeout: () => new Flawed({ run, what: `not everything was in ClickHouse after ${LIMIT}` })
      })
    )
    return Fiber.join(going)
  })

const verify = (run: string, { events, source }: Arena) =>
  Effect.gen(function* () {
    const [found, expected] = yield* Effect.all([contents(), source.expected(events)])
    if (JSON.stringify(found) !== JSON.stringify(expected)) {
      yield* new Flawed({ run, what: `${JSON.stringify(found)} instead of ${JSON.stringify(expected)}` })
    }
  })

const disk = (schema: string | undefined) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const clickHouse = yield* ClickHouse.ClickHouse
    const [postgres] = yield* sql<{ bytes: number }>`
      SELECT sum(pg_total_relation_size(oid))::float8 AS bytes
      FROM pg_class
      WHERE relnamespace = to_regnamespace(${schema ?? ""}) AND relkind = 'r'
    `
    const [parts] = yield* clickHouse.query(
      "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = currentDatabase()"
    )
    return { postgres: postgres?.bytes ?? Number.NaN, clickHouse: Number(parts?.[0]) }
  })

/** Vacuumed, so that autovacuum does not hit one contestant and spare another. */
const settle = Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe("VACUUM (ANALYZE)"))

/** One run of a contestant in a round, with so many events. */
export const measure = (
  servers: Databases.Servers,
  source: Source,
  contestant: Contestant,
  round: number,
  events: number
) => {
  const run = `round ${round}, ${contestant.name}, ${contestant.variant}`
  return Effect.gen(function* () {
    const arena: Arena = { source, events, variables: yield* Databases.Variables }
    const wal = yield* Meter.walPosition
    yield* contestant.prepare(arena)
    const walBytesOfPublishing = (yield* Meter.walPosition) - wal
    yield* settle
    const started = yield* contestant.start(arena)
    const meter = yield* Meter.start(servers, started.programs)
    const finish = yield* untilCarried(run, started, events, meter.look)
    const costs = yield* meter.read
    yield* finish
    if (started.ends) yield* Effect.forEach(started.programs, ({ finished }) => finished)
    yield* verify(run, arena)
    const result: Run = {
      name: contestant.name,
      variant: contestant.variant,
      round,
      events,
      ...costs,
      // A prepare that does nothing writes a record or two all the same.
      walBytesOfPublishing: walBytesOfPublishing > events ? walBytesOfPublishing : Number.NaN,
      diskBytes: yield* disk(contestant.schema)
    }
    yield* Console.error(`${run}: ${fixed(costs.seconds, 2)} s, ${whole(events / costs.seconds)} events/s`)
    return result
  }).pipe(
    Effect.scoped,
    // Nothing else runs at the same time, and what has run is gone.
    Effect.provide(Databases.layer(servers, `bench_throughput_${round}`, { template: source.template })),
    orError
  )
}
