/**
 * The relay: seals what was committed, and delivers it.
 *
 * Every committed event arrives, once in effect: a batch is acknowledged only after ClickHouse's definite yes. Whatever
 * happens before that — a time-out, a kill, a server that is down or set up wrong — the batch is leased again and
 * repeated identically under the same token. Only an event whose data ClickHouse refuses does not arrive: it is isolated
 * from the others of its batch and kept as a failure, for somebody to correct. Any number of relays may run on one
 * outbox; they share the work and none needs to know of another. A relay that cannot reach a database waits and carries
 * on by itself. Memory does not grow with the backlog: a batch passes through as a stream.
 *
 * @since 0.1.0
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
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
import { keepHouse } from "./Relay/housekeeping.ts"
import { sealForever, sealUntilEmpty } from "./Relay/pace.ts"
import { watch } from "./Relay/watch.ts"
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
     * Seals and delivers without end. When interrupted, it takes no further batch and gives those in flight
     * `shutdownGrace` to finish; what does not is left in the outbox for the next relay.
     */
    readonly run: Effect.Effect<never>
    /** Seals and delivers until everything that was committed is in ClickHouse or is a failure, then ends. */
    readonly drain: Effect.Effect<void>
    /** Whether `run` does its work, and what stands in its way. Asks nobody: it is what was seen last. */
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
    const pulse = yield* makePulse(config)
    const work = <A>(seal: Seal<A>) =>
      Metrics.registerRelay.pipe(Effect.zipRight(sealAndDeliver(config, pulse, seal)), Effect.provide(context))
    return {
      run: work((onBatch) =>
        [sealForever(config, onBatch, pulse.looked), keepHouse(config), watch(pulse)].reduce((one, other) =>
          raceFirst(one, other)
        )
      ),
      drain: work((onBatch) => sealUntilEmpty(config, onBatch)),
      health: pulse.health
    }
  })

/** Seals until it has reason to end, and runs `onBatch` whenever there may be something to deliver. */
type Seal<A> = (onBatch: Effect.Effect<unknown>) => Effect.Effect<A, never, Services>

const sealAndDeliver = <A>(
  config: Config.Relay & Config.Outbox,
  pulse: Pulse,
  seal: Seal<A>
): Effect.Effect<A, never, Services> =>
  Effect.gen(function* () {
    yield* pulse.started(config.workers)
    yield* Metric.set(Metrics.workers, config.workers)
    const wake = yield* Queue.dropping<void>(config.workers)
    const sealing = seal(Queue.offer(wake, undefined))
    return yield* Effect.acquireUseRelease(
      startWorkers(config, pulse, wake),
      // Workers end only when they are stopped, or of a bug: then the relay must not look alive.
      ({ fiber }) => raceFirst(sealing, Effect.flatMap(Fiber.await(fiber), diedEarly)),
      stopWorkers(config.shutdownGrace)
    )
  })

/** Even where it was interrupted: not by the relay, which would not have waited for it. */
const diedEarly = (exit: Exit.Exit<unknown>) =>
  Effect.die(new Error(`The relay's workers have ended: ${Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "early"}`))

interface Workers {
  readonly fiber: Fiber.RuntimeFiber<unknown>
  readonly stop: Deferred.Deferred<void>
}

/** How long a worker waits where others have what there is, or it is to be tried later. */
const BUSY: Duration.DurationInput = "1 second"
/** Where there is nothing the sealer tells of what comes, here or from another relay. This is in case it does not. */
const IDLE: Duration.DurationInput = "1 minute"

const startWorkers = (config: Config.Relay & Config.Outbox, pulse: Pulse, wake: Queue.Queue<void>) =>
  Effect.gen(function* () {
    const stop = yield* Deferred.make<void>()
    const workers = Array.from({ length: config.workers }, (_, index) => worker(config, pulse, index, wake, stop))
    // A resource is acquired uninterruptibly, and its fibers would inherit that.
    const fiber = yield* Effect.all(workers, { concurrency: "unbounded", discard: true }).pipe(
      Effect.interruptible,
      Effect.forkDaemon
    )
    return { fiber, stop }
  })

const worker = (
  config: Config.Relay & Config.Outbox,
  pulse: Pulse,
  index: number,
  wake: Queue.Queue<void>,
  stop: Deferred.Deferred<void>
): Effect.Effect<unknown, never, Services> =>
  Effect.gen(function* () {
    const options = {
      ...config,
      holder: `${relayId}/${index}`,
      alive: pulse.alive(index),
      progressed: pulse.progressed,
      wake: Queue.offer(wake, undefined)
    }
    // Grows while one attempt after the other fails, whichever batches they were of: a server that is down is not
    // asked by every batch in turn.
    const pause = yield* Schedule.driver(RetryPolicy.schedules(config).transient)
    // A batch that was begun is finished; only waiting ends at once.
    const wait = <B, E>(effect: Effect.Effect<B, E>) => Effect.raceFirst(Effect.ignore(effect), Deferred.await(stop))
    const step = deliverNext(options).pipe(
      Effect.matchEffect({
        onFailure: (error) =>
          Effect.zipRight(
            error._tag === "SqlError" ? Effect.logWarning("A worker cannot use the outbox", error) : options.alive,
            wait(pause.next(undefined))
          ),
        onSuccess: (delivered) =>
          Effect.all([
            options.alive,
            pause.reset,
            delivered
              ? options.progressed
              : Effect.flatMap(patience, (time) => wait(Effect.timeoutOption(Queue.take(wake), time)))
          ])
      })
    )
    return yield* Effect.repeat(step, { until: () => Deferred.isDone(stop) })
  })

const patience = Effect.flatMap(OutboxStore.OutboxStore, ({ hasPending }) => hasPending).pipe(
  Effect.map((pending) => (pending ? BUSY : IDLE)),
  Effect.orElseSucceed(() => BUSY),
  Effect.withTracerEnabled(false)
)

const stopWorkers =
  (grace: Duration.Duration) =>
  ({ fiber, stop }: Workers): Effect.Effect<void> =>
    Deferred.succeed(stop, undefined).pipe(
      Effect.zipRight(Effect.timeoutOption(Effect.interruptible(Fiber.await(fiber)), grace)),
      Effect.zipRight(Fiber.interrupt(fiber))
    )

/**
 * The relay as a scoped fiber of the program it is provided to: it runs as long as the layer's scope is open. Takes
 * whichever `OutboxStore` and `ClickHouseSink` it is given.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (config: Config.Relay & Config.Outbox): Layer.Layer<Relay, never, Services> =>
  Layer.scoped(
    Relay,
    Effect.tap(make(config), ({ run }) =>
      // It ends only by a bug, or in front of a database that is not its own; nobody waits for it to say so.
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
  ConfigError.ConfigError | OutboxStore.ForeignCluster | OutboxStore.NotMigrated | SinkError | SqlError,
  Postgres | SqlClient.SqlClient
> = Layer.unwrapEffect(
  Effect.map(Effect.all([Config.relay, Config.outbox]), ([relay, outbox]) => layer({ ...relay, ...outbox }))
).pipe(Layer.provide([OutboxStore.layerConfig, Layer.provide(ClickHouseSink.layerConfig, ClickHouse.layerConfig)]))
