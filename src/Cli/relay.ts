/** `clickhouse-outbox relay` */
import * as Command from "@effect/cli/Command"
import * as Options from "@effect/cli/Options"
import type * as SqlClient from "@effect/sql/SqlClient"
import { all, mapOrFail, type Config as Setting } from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as BatchFailures from "../BatchFailures.ts"
import * as ClickHouse from "../ClickHouse.ts"
import * as ClickHouseSink from "../ClickHouseSink.ts"
import * as Config from "../Config.ts"
import * as EventLog from "../EventLog.ts"
import { raceFirst } from "../internal/race.ts"
import { applicationName } from "../internal/relayId.ts"
import * as Operations from "../Operations.ts"
import * as OperatorServer from "../OperatorServer.ts"
import * as OutboxStore from "../OutboxStore.ts"
import * as Postgres from "../Postgres.ts"
import * as Relay from "../Relay.ts"
import * as RetryPolicy from "../RetryPolicy.ts"
import * as Telemetry from "../Telemetry.ts"
import { flag } from "./options.ts"
import { namePostgres, PostgresFailed } from "./services.ts"

const untilEmpty = flag("until-empty").pipe(
  Options.withDescription("Ends when everything that was committed is delivered or has become a failure.")
)

/** What the relay itself uses: one for each worker, one for sealing and maintenance, one for renewing leases. */
const connectionsOf = (relay: Config.Relay): number => relay.workers + 2

const configuration = all({
  postgres: Config.postgres,
  clickHouse: Config.clickHouse,
  outbox: Config.outbox,
  relay: Config.relay,
  http: Config.http
}).pipe(
  mapOrFail((config) => {
    const needed = connectionsOf(config.relay) + 1
    return config.http.port === "off" || config.postgres.maxConnections >= needed
      ? Either.right(config)
      : Either.left(
          ConfigError.InvalidData(
            ["DATABASE_MAX_CONNECTIONS"],
            `must be at least ${needed} with OUTBOX_WORKERS at ${config.relay.workers} and the operator API, which OUTBOX_HTTP_PORT=off turns off`
          )
        )
  })
)

type Configuration = Setting.Success<typeof configuration>

const isTransient = (error: unknown): boolean => error instanceof PostgresFailed && error.isTransient

/** A relay that is started together with its Postgres waits for it, as it waits for one that goes away later. */
const waitForPostgres =
  (config: Config.Relay) =>
  <A, E, R>(connect: Effect.Effect<A, E, R>) =>
    connect.pipe(
      Effect.tapError((error) =>
        isTransient(error) ? Effect.logWarning("The relay waits for Postgres", error) : Effect.void
      ),
      Effect.retry({ while: isTransient, schedule: RetryPolicy.schedules(config).transient })
    )

/** How many requests of the operator API may use Postgres at once. */
const MAX_OPERATOR_CONNECTIONS = 4

/**
 * Serves the operator API on the connections that the relay leaves over. It listens before the relay has started, so
 * that probes are told what the relay waits for. If it fails that is logged, and the relay goes on.
 */
const serve = (
  { clickHouse, http, postgres, relay }: Configuration,
  started: Effect.Effect<typeof Relay.Relay.Service>
) => {
  const services = Effect.flatMap(started, (relay) =>
    Layer.build(
      Layer.mergeAll(
        BatchFailures.layer,
        Operations.layer,
        EventLog.layer(clickHouse),
        Layer.succeed(Relay.Relay, relay)
      )
    )
  ).pipe(namePostgres(postgres), waitForPostgres(relay), Effect.orDie)
  const concurrency = Math.min(MAX_OPERATOR_CONNECTIONS, postgres.maxConnections - connectionsOf(relay))
  return Effect.gen(function* () {
    const context = yield* Effect.context<ClickHouse.ClickHouse | SqlClient.SqlClient>()
    yield* OperatorServer.makeEarly(http, Effect.provide(services, context), { concurrency })
    return yield* Effect.never
  }).pipe(
    Effect.scoped,
    Effect.tapErrorCause((cause) => Effect.logError("The operator API has ended", cause)),
    Effect.catchAllCause(() => Effect.never)
  )
}

/** A signal is the end that a relay was asked to wait for, also while it starts. */
const exitCleanly = Effect.zipRight(
  Effect.logInfo("The relay has stopped"),
  Effect.sync(() => {
    process.exitCode = 0
  })
)

const run = (untilEmpty: boolean) =>
  Effect.gen(function* () {
    const config = yield* configuration
    const store = Layer.effect(
      OutboxStore.OutboxStore,
      OutboxStore.make(config.outbox).pipe(namePostgres(config.postgres), waitForPostgres(config.relay))
    )
    const started = yield* Deferred.make<typeof Relay.Relay.Service>()
    const work = Effect.gen(function* () {
      const relay = yield* Relay.make({ ...config.relay, ...config.outbox })
      yield* Effect.logInfo("The relay has started")
      yield* Deferred.succeed(started, relay)
      yield* untilEmpty ? relay.drain : relay.run
    }).pipe(Effect.provide(Layer.merge(store, ClickHouseSink.layer(config.clickHouse))))
    yield* (untilEmpty ? work : raceFirst(work, serve(config, Deferred.await(started)))).pipe(
      Effect.provide([Postgres.layerPinned(config.postgres, applicationName), ClickHouse.layer(config.clickHouse)]),
      namePostgres(config.postgres),
      Effect.provide(Telemetry.layerConfig())
    )
  }).pipe(Effect.interruptible)

export const relay = Command.make("relay", { untilEmpty }, ({ untilEmpty }) =>
  untilEmpty ? run(untilEmpty) : Effect.onInterrupt(run(untilEmpty), () => exitCleanly)
).pipe(
  Command.withDescription(
    "Delivers what was committed, until SIGTERM or Ctrl-C. Any number of relays may run on one outbox."
  )
)
