/**
 * `npm run bench:isolation`: what isolating refused events costs, against a batch that ClickHouse takes at once.
 *
 * The time is that of `Relay.drain`, with the default configuration, for 50,000 events that one transaction published
 * through `outbox.publish_all`: from the first look for something to seal until everything is delivered or has become a
 * failure. A bad event has a number of 2^64 or more, at a random place: other places in each round, the same for each
 * size. `OUTBOX_BATCH_BYTES` ends a batch, so 50,000 events of 1 kB are two. Requests are the attempts of all batches.
 *
 * Each run has databases of its own, on servers that are started for it and leave nothing behind. A round has one run of
 * each kind, in random order, so that other load on the machine meets them alike. The very first run warms up and is not
 * counted. After each run every good event must be in ClickHouse once, and every bad one a failure of its own.
 *
 * Progress goes to standard error, medians to standard output, every run to `bench/results/isolation.json`.
 */
import { mkdir, writeFile } from "node:fs/promises"
import { cpus } from "node:os"
import * as Command from "@effect/cli/Command"
import * as Options from "@effect/cli/Options"
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { SqlClient } from "@effect/sql"
import { ClickHouse, Config, Relay } from "clickhouse-outbox"
import { Array, Console, Duration, Effect, Logger, LogLevel, Option, Random } from "effect"
import * as Databases from "./databases.ts"
import { Flawed } from "./harness/Flawed.ts"
import { median } from "./harness/statistics.ts"

const EVENTS = 50_000
const BAD = [0, 1, 10, 100]
/** Sizes of a context as Postgres writes it, in bytes. */
const SIZES = [150, 500, 1_000]
const QUICK_SIZES = [500]
const RESULTS = new URL("./results/", import.meta.url)

/** Bytes that a context of {@link publish} has without its note. */
const SMALLEST = 121

interface Kind {
  readonly size: number
  readonly bad: number
}

interface Run extends Kind {
  readonly round: number
  readonly batches: number
  readonly requests: number
  readonly seconds: number
}

const publish = ({ size }: Kind, bad: ReadonlyArray<number>) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) => sql`
      SELECT count(*)
      FROM outbox.publish_all(
        array_fill('order_placed'::text, ARRAY[${EVENTS}::integer]),
        ARRAY(
          SELECT
            jsonb_build_object(
              'position', position,
              'customer', md5(position::text),
              'country', (ARRAY['DE', 'FR', 'NZ'])[1 + position % 3],
              'paid', position % 2 = 0,
              'note', left(repeat(md5((position / 7)::text), 32), ${size - SMALLEST}::integer)
            )
            || CASE WHEN position = ANY (${bad}::integer[]) THEN '{"n": 1e30}' ELSE '{"n": 1.5}' END::jsonb
          FROM generate_series(1, ${EVENTS}::integer) AS position
        )
      )
    `
  )

const drain = Effect.flatMap(Effect.all([Config.relay, Config.outbox]), ([relay, outbox]) =>
  Effect.flatMap(Relay.make({ ...relay, ...outbox }), ({ drain }) => drain)
)

/** Fails unless every good event is in ClickHouse once, every bad one is a failure of its own, and nothing is elsewhere. */
const verify = (run: string, bad: ReadonlyArray<number>) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const clickHouse = yield* ClickHouse.ClickHouse
    const [rows] = yield* clickHouse.query("SELECT toUInt32(count()) FROM event_log")
    const missing = yield* clickHouse.query(`
      SELECT toUInt32(number + 1) AS position
      FROM numbers(${EVENTS})
      WHERE position NOT IN (SELECT event_context.position::UInt32 FROM event_log)
      ORDER BY position
    `)
    const failed = yield* sql<{ position: number; alone: boolean }>`
      SELECT (event_context ->> 'position')::integer AS position, event_count = 1 AND NOT parked AS alone
      FROM outbox.batch_failure AS failure
      JOIN outbox.batch_failure_event AS event ON event.failure_id = failure.id
      ORDER BY position
    `
    const expect = (what: string, found: unknown, expected: unknown) =>
      JSON.stringify(found) === JSON.stringify(expected)
        ? Effect.void
        : new Flawed({ run, what: `${what} ${JSON.stringify(found)} instead of ${JSON.stringify(expected)}` })
    const failures = bad.map((position) => ({ position, alone: true }))
    yield* expect("rows in ClickHouse:", rows, [EVENTS - bad.length])
    yield* expect("positions that are not in ClickHouse:", missing.flat(), bad)
    yield* expect("failures:", failed, failures)
  })

const measure = (servers: Databases.Servers, kind: Kind, round: number) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const places = yield* Random.make(`${kind.bad}/${round}`).shuffle(Array.range(1, EVENTS))
    const bad = [...Array.take(places, kind.bad)].sort((a, b) => a - b)
    yield* publish(kind, bad)
    const [took] = yield* Effect.timed(drain)
    const [sums = { batches: 0, requests: 0 }] = yield* sql<{ batches: number; requests: number }>`
      SELECT
        (count(*) FILTER (WHERE parent_id IS NULL))::integer AS batches,
        sum(attempts)::integer AS requests
      FROM outbox.batch
    `
    const run: Run = { ...kind, round, ...sums, seconds: Duration.toSeconds(took) }
    const said = `round ${round}, ${kind.size} B, ${kind.bad} bad`
    yield* verify(said, bad)
    yield* Console.error(`${said}: ${run.seconds.toFixed(2)} s, ${run.requests} requests`)
    return run
  }).pipe(Effect.provide(Databases.layer(servers, `isolation_${round}_${kind.size}_${kind.bad}`)))

/** A line of Markdown for each kind. */
const table = (kinds: ReadonlyArray<Kind>, runs: ReadonlyArray<Run>): string => {
  const of = ({ bad, size }: Kind, value: "seconds" | "requests" | "batches") =>
    median(runs.filter((run) => run.size === size && run.bad === bad).map((run) => run[value]))
  const lines = kinds.map((kind) => {
    const seconds = of(kind, "seconds")
    const ratio = seconds / of({ ...kind, bad: 0 }, "seconds")
    return [
      ...[`${kind.size} B`, kind.bad, of(kind, "batches"), of(kind, "requests")],
      ...[seconds.toFixed(2), ratio.toFixed(1)]
    ]
  })
  const columns = ["context", "bad events", "batches sealed", "requests", "seconds", "times a clean one"]
  return [columns, columns.map(() => "---"), ...lines].map((cells) => `| ${cells.join(" | ")} |`).join("\n")
}

const bench = Command.make(
  "bench:isolation",
  {
    runs: Options.integer("runs").pipe(
      Options.filterMap(
        Option.liftPredicate((n) => n >= 1),
        "--runs must be a whole number of at least 1"
      ),
      Options.withDefault(3),
      Options.withDescription("Runs of each kind, of which the table shows the median.")
    ),
    quick: Options.boolean("quick").pipe(Options.withDescription("One size, one run."))
  },
  ({ quick, runs }) =>
    Effect.gen(function* () {
      const kinds = (quick ? QUICK_SIZES : SIZES).flatMap((size) => BAD.map((bad) => ({ size, bad })))
      const servers = yield* Databases.start
      yield* measure(servers, { size: 500, bad: 0 }, 0)
      const done = yield* Effect.forEach(Array.range(1, quick ? 1 : runs), (round) =>
        Effect.flatMap(Random.make(`order/${round}`).shuffle(kinds), (order) =>
          Effect.forEach(order, (kind) => measure(servers, kind, round))
        )
      ).pipe(Effect.map(Array.flatten))
      const machine = { cpus: cpus().map(({ model }) => model), node: process.version }
      const results = { measuredAt: new Date(), machine, events: EVENTS, runs: done }
      yield* Effect.promise(async () => {
        await mkdir(RESULTS, { recursive: true })
        await writeFile(new URL("isolation.json", RESULTS), `${JSON.stringify(results, undefined, 2)}\n`)
      })
      yield* Console.log(table(kinds, done))
    }).pipe(
      Effect.scoped,
      Effect.tapError((error) => Console.error(`bench:isolation: ${error.message}`)),
      Effect.tapDefect((cause) => Effect.logError(cause))
    )
).pipe(Command.withDescription("Measures what isolating refused events costs."))

// Ctrl-C comes twice, from the terminal and from npm: the second must not cut off what the first has begun to stop.
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => {})

Command.run(bench, { name: "bench:isolation", version: "0.1.0" })(process.argv).pipe(
  Effect.provide([
    NodeContext.layer,
    Logger.minimumLogLevel(LogLevel.Error),
    Logger.replace(Logger.defaultLogger, Logger.withConsoleError(Logger.stringLogger))
  ]),
  NodeRuntime.runMain({ disableErrorReporting: true, disablePrettyLogger: true })
)
