/**
 * The relay: seals what was committed, and delivers it.
 *
 * Every committed event arrives, once in effect: a batch is acknowledged only after ClickHouse's definite yes. Whatever
 * happens before that, be it a time-out, a kill, a server that is down or set up wrong, the batch is leased again and
 * repeated identically under the same token. Only an event whose data ClickHouse refuses does not arrive: it is isolated
 * from the others of its batch and kept as a failure, for somebody to correct.
 *
 * Any number of relays may run on one outbox; they share the work, and none needs to know of another. A relay that cannot
 * reach a database waits, and carries on by itself. A bug ends it, with a fatal log: a part of it that has stopped must not
 * look alive. Memory does not grow with the backlog: a batch passes through as a stream.
 *
 * @since 0.1.0
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import type * as ConfigError from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import * as ClickHouse from "./ClickHouse.ts"
import * as ClickHouseSink from "./ClickHouseSink.ts"
import * as Config from "./Config.ts"
import { raceFirst } from "./internal/race.ts"
import { relayId } from "./internal/relayId.ts"
import * as Metrics from "./Metrics.ts"
import * as OutboxStore from "./OutboxStore.ts"
import type { Postgres } from "./Postgres.ts"
import { deliverNext } from "./Relay/deliver.ts"
import { type Health, makePulse, type Pulse } from "./Relay/health.ts"
import { maintain } from "./Relay/maintenance.ts"
import { probeForever } from "./Relay/probe.ts"
import { sealForever, sealUntilEmpty } from "./Relay/sealing.ts"
import * as RetryPolicy from "./RetryPolicy.ts"
import type { SinkError } from "./SinkError.ts"

export { Check, Health } from "./Relay/health.ts"

/**
 * @since 0.1.0
 * @category tags
 */
export class Relay extends Context.Tag("clickhouse-outbox/Relay")<
  Relay,
  {
    /**
     * Seals and delivers without end. When interrupted, it leases no further batch and gives those in flight
     * `shutdownGrace` to finish. What does not finish is released, for the next relay.
     */
    readonly run: Effect.Effect<never>
    /** Seals and delivers until everything that was committed is in ClickHouse or has become a failure, then ends. */
    readonly drain: Effect.Effect<void>
    /** Whether `run` does its work, and what stands in its way, as it was seen last. Makes no query. */
    readonly health: Effect.Effect<Health>
  }
>() {}

type Services = OutboxStore.OutboxStore | ClickHouseSink.ClickHouseSink

/**
 * @since 0.1.0
 * @category constructors
 */
export const make = (config: Config.Relay & Config.Outbox): Effect.Effect<typeof Relay.Service, never, Services> =>
  Effect.gen(function* () {
    const context = yield* Effect.context<Services>()
    const { batchEvents, linger, retryBase, retryCap } = config
    const pulse = yield* makePulse(config)
    const work = <A>(seal: Seal<A>) =>
      Metrics.registerRelay.pipe(Effect.zipRight(sealAndDeliver(config, pulse, seal)), Effect.provide(context))
    return {
      run: work((onBatch) =>
        sealForever({ batchEvents, linger, retryBase, retryCap, onBatch, onLook: pulse.looked }).pipe(
          (sealing) => raceFirst(sealing, maintain(config)),
          (relaying) => raceFirst(relaying, probeForever(pulse))
        )
      ),
      drain: work((onBatch) => sealUntilEmpty({ retryBase, retryCap, onBatch })),
      health: pulse.health
    }
  })

/** Seals until there is a reason to end, and runs `onBatch` whenever there may be something to deliver. */
type Seal<A> = (onBatch: Effect.Effect<unknown>) => Effect.Effect<A, never, Services>

const sealAndDeliver = <A>(
  config: WorkerConfig & Pick<Config.Relay, "workers" | "shutdownGrace">,
  pulse: Pulse,
  seal: Seal<A>
): Effect.Effect<A, never, Services> =>
  Effect.gen(function* () {
    yield* pulse.started(config.workers)
    yield* Metric.set(Metrics.workers, config.workers)
    const newBatches = yield* Queue.dropping<void>(config.workers)
    const stop = yield* Deferred.make<void>()
    const workers = Arr.makeBy(config.workers, (index) => worker({ config, pulse, index, newBatches, stop }))
    return yield* Effect.acquireUseRelease(
      startWorkers(workers),
      // Workers end only when they are told to, or of a bug: then the relay must not look alive.
      (running) => raceFirst(seal(Queue.offer(newBatches, undefined)), Effect.flatMap(Fiber.await(running), diedEarly)),
      (running) => stopWorkers(running, { stop, grace: config.shutdownGrace })
    )
  })

/** Acquiring is uninterruptible, which the workers' fibers would inherit. */
const startWorkers = (workers: ReadonlyArray<Effect.Effect<void, never, Services>>) =>
  Effect.all(workers, { concurrency: "unbounded", discard: true }).pipe(Effect.interruptible, Effect.forkDaemon)

/** Also where they were interrupted: the relay does that only once it no longer waits for them. */
const diedEarly = (exit: Exit.Exit<unknown>) =>
  Effect.die(new Error(`The relay's workers have ended: ${Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "early"}`))

const stopWorkers = (
  running: Fiber.RuntimeFiber<void>,
  { grace, stop }: { readonly grace: Duration.Duration; readonly stop: Deferred.Deferred<void> }
): Effect.Effect<void> =>
  Deferred.succeed(stop, undefined).pipe(
    Effect.zipRight(Effect.timeoutOption(Effect.interruptible(Fiber.await(running)), grace)),
    Effect.zipRight(Fiber.interrupt(running))
  )

type WorkerConfig = Pick<Config.Relay, "retryBase" | "retryCap" | "incidentAfter" | "refusedEventsLimit"> &
  Pick<Config.Outbox, "lease">

interface Worker {
  readonly config: WorkerConfig
  readonly pulse: Pulse
  readonly index: number
  /** Holds something while there may be batches that no worker has looked for. */
  readonly newBatches: Queue.Queue<void>
  /** Done when it is to begin no further batch. */
  readonly stop: Deferred.Deferred<void>
}

/** Delivers one batch after the other. What it waits for when it cannot: see the table in `Relay/deliver.ts`. */
const worker = ({ config, index, newBatches, pulse, stop }: Worker): Effect.Effect<void, never, Services> =>
  Effect.gen(function* () {
    const { incidentAfter, lease, refusedEventsLimit, retryBase, retryCap } = config
    const alive = pulse.alive(index)
    // Grows while one attempt after the other fails, whichever batches they were of: a server that is down is not
    // asked by every batch in turn.
    const backoff = yield* Schedule.driver(RetryPolicy.schedules({ retryBase, retryCap }).transient)
    // A batch that was begun is finished. Only waiting ends at once.
    const wait = <A, E>(effect: Effect.Effect<A, E>) => Effect.raceFirst(Effect.ignore(effect), Deferred.await(stop))
    const waitForBatch = Effect.flatMap(pollInterval, (time) =>
      wait(Effect.timeoutOption(Queue.take(newBatches), time))
    )
    const step = deliverNext({
      owner: `${relayId}/${index}`,
      lease,
      retryBase,
      retryCap,
      incidentAfter,
      refusedEventsLimit,
      alive,
      progressed: pulse.progressed,
      wake: Queue.offer(newBatches, undefined)
    }).pipe(
      Effect.matchEffect({
        onFailure: (error) =>
          Effect.zipRight(
            error._tag === "SqlError" ? Effect.logWarning("A worker cannot use the outbox", error) : alive,
            wait(backoff.next(undefined))
          ),
        onSuccess: (hadBatch) =>
          Effect.all([alive, backoff.reset, hadBatch ? pulse.progressed : waitForBatch], { discard: true })
      })
    )
    yield* Effect.repeat(step, { until: () => Deferred.isDone(stop) })
  })

/** Other workers have what is pending, or it is to be tried later: leases run out, and waits end, without a word. */
const POLL_WHILE_BATCHES_ARE_PENDING: Duration.DurationInput = "1 second"
/** The sealer tells of every new batch, of other relays too. This is in case it does not. */
const POLL_WHILE_NONE_IS_PENDING: Duration.DurationInput = "1 minute"

const pollInterval = Effect.flatMap(OutboxStore.OutboxStore, ({ hasPending }) => hasPending).pipe(
  Effect.map((pending) => (pending ? POLL_WHILE_BATCHES_ARE_PENDING : POLL_WHILE_NONE_IS_PENDING)),
  // The next lease will tell what is wrong with Postgres.
  Effect.orElseSucceed(() => POLL_WHILE_BATCHES_ARE_PENDING),
  Effect.withTracerEnabled(false)
)

/**
 * The relay as a scoped fiber of the program it is provided to: it runs as long as the layer's scope is open. Takes
 * whatever `OutboxStore` and `ClickHouseSink` it is given.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (config: Config.Relay & Config.Outbox): Layer.Layer<Relay, never, Services> =>
  Layer.scoped(
    Relay,
    Effect.tap(make(config), ({ run }) =>
      // It ends only of a bug, or at a database that is not its own. Nobody awaits the fiber, so it is logged.
      run.pipe(
        Effect.onError((cause) =>
          Cause.isInterruptedOnly(cause) ? Effect.void : Effect.logFatal("The relay has ended", cause)
        ),
        Effect.interruptible,
        Effect.forkScoped
      )
    )
  )

/**
 * {@link layer} on the program's own Postgres connections, everything else from the environment: the `OUTBOX_…` and
 * `CLICKHOUSE_…` variables.
 *
 * @example
 * ```ts
 * import { Layer } from "effect"
 * import { EventPublisher, Postgres, Relay } from "clickhouse-outbox"
 *
 * const OutboxLive = Layer.merge(EventPublisher.layerConfig, Relay.layerConfig).pipe(
 *   Layer.provideMerge(Postgres.layerConfig)
 * )
 * ```
 * @since 0.1.0
 * @category layers
 */
export const layerConfig: Layer.Layer<
  Relay,
  | ConfigError.ConfigError
  | OutboxStore.ForeignDatabase
  | OutboxStore.NotMigrated
  | OutboxStore.UnsuitableEncoding
  | SinkError
  | SqlError,
  Postgres | SqlClient.SqlClient
> = Layer.unwrapEffect(
  Effect.map(Effect.all([Config.relay, Config.outbox]), ([relay, outbox]) => layer({ ...relay, ...outbox }))
).pipe(Layer.provide([OutboxStore.layerConfig, Layer.provide(ClickHouseSink.layerConfig, ClickHouse.layerConfig)]))
