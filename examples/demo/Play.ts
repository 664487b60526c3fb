/** A run of the demo, from the first event to the verdict. */
import { HttpServer } from "@effect/platform"
import { OperatorServer, OutboxStore } from "clickhouse-outbox"
import { Config, Console, Effect, Fiber, Option, Schedule, Schema } from "effect"
import * as Drive from "./Drive.ts"
import * as Judge from "./Judge.ts"
import * as Progress from "./Progress.ts"
import * as Queries from "./Queries.ts"
import { refuse } from "./Refusals.ts"

/** Not every published event has arrived exactly once. */
export class Flawed extends Schema.TaggedError<Flawed>()("Flawed", { expected: Schema.Int, verdict: Schema.String }) {
  override get message() {
    return `expected ${this.expected} events, each of them once, but ${this.verdict}`
  }
}

/** Of a run without end. */
const EVENTS_PER_SECOND = 1_000

/** How long the last events may take to arrive. After that, what is missing is counted as missing. */
const PATIENCE = "30 seconds"

/**
 * Publishes events and follows them into ClickHouse. When interrupted, it still waits for those on their way, and says
 * what has arrived. Fails if all were published and not all have arrived.
 *
 * @param run the environment that the run's events carry
 * @param events how many to publish; without end if none is given
 */
export const play = (run: string, events: Option.Option<number>) =>
  Effect.gen(function* () {
    yield* announce
    yield* finishEarlierRuns
    const drive = yield* Drive.make(run)
    const progress = yield* Progress.make
    const showing = yield* progress.keepShowing.pipe(
      Effect.tapErrorCause((cause) => Effect.logWarning("The progress is no longer shown", cause)),
      Effect.forkScoped
    )

    const conclude = Effect.gen(function* () {
      yield* Effect.timeoutOption(Effect.interruptible(allDelivered), PATIENCE)
      yield* Fiber.interrupt(showing)
      yield* progress.show
      yield* Console.log(`\n${yield* drive.refused} requests were refused.\n\n${yield* Queries.answers(run)}`)
      const verdict = yield* Judge.judge(run)
      yield* Console.log(`demo: ${verdict}`)
      return verdict
    })

    const publish = Option.match(events, {
      onNone: () =>
        Effect.zipRight(refuse, Effect.repeat(drive.publish(EVENTS_PER_SECOND), Schedule.fixed("1 second"))),
      onSome: drive.publish
    })
    const stop = Effect.gen(function* () {
      yield* Console.error(
        `\nStopping. What is on its way may take up to ${PATIENCE} to arrive; the rest arrives with the next run.`
      )
      yield* conclude
    }).pipe(
      Effect.catchAll(({ message }) => Console.error(`demo: what has arrived could not be compared: ${message}`)),
      Effect.catchAllCause(Effect.logWarning)
    )
    yield* Effect.onInterrupt(publish, () => stop)
    const verdict = yield* conclude
    const flawed = Option.filter(events, (expected) => !verdict.isFlawless || verdict.published !== expected)
    if (Option.isSome(flawed)) return yield* new Flawed({ expected: flawed.value, verdict: String(verdict) })
  }).pipe(Effect.scoped)

const announce = Effect.gen(function* () {
  const [postgres, clickhouse] = yield* Config.all([Config.string("DATABASE_URL"), Config.string("CLICKHOUSE_URL")])
  const application = yield* HttpServer.addressFormattedWith(Effect.succeed)
  const operator = yield* OperatorServer.OperatorServer
  const console = Option.match(yield* operator.url, {
    onNone: () => "",
    onSome: (url) => `Console      ${url}, with events that ClickHouse refuses: correct one there\n`
  })
  yield* Console.error(
    `Postgres     ${postgres}
ClickHouse   ${clickhouse}
Application  ${application}/users
${console}Commands     DATABASE_URL=${postgres} CLICKHOUSE_URL=${clickhouse} npm run -s cli -- status

Latency is the time from an event's published_at until the relay has recorded that ClickHouse took it.
`
  )
})

/** A run that was killed may have left events behind, and a relay's lease on them that has yet to run out. */
const finishEarlierRuns = Effect.gen(function* () {
  const { status } = yield* OutboxStore.OutboxStore
  const { backlog, relayPause } = yield* status
  if (backlog > 0) {
    const paused = relayPause === null ? "" : ` ${relayPause.pausedBy} paused delivery: resume it in the console.`
    yield* Console.error(`Waiting until what an earlier run published is delivered, events: ${backlog}.${paused}\n`)
  }
  yield* allDelivered
})

const allDelivered = Effect.flatMap(OutboxStore.OutboxStore, ({ status }) =>
  Effect.repeat(status, { until: ({ backlog }) => backlog === 0, schedule: Schedule.spaced("100 millis") })
)
