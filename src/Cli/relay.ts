/** `clickhouse-outbox relay` */
import * as Command from "@effect/cli/Command"
import * as Options from "@effect/cli/Options"
import type * as SqlClient from "@effect/sql/SqlClient"
import { all, type Config as Setting } from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as BatchFailures from "../BatchFailures.ts"
import * as ClickHouse from "../ClickHouse.ts"
import * as ClickHouseSink from "../ClickHouseSink.ts"
import * as Config from "../Config.ts"
import * as Operations from "../Operations.ts"
import * as OutboxStore from "../OutboxStore.ts"
import * as Postgres from "../Postgres.ts"
import { raceFirst } from "../Race.ts"
import * as Relay from "../Relay.ts"
import * as RetryPolicy from "../RetryPolicy.ts"
import { namePostgres, PostgresFailed } from "./PostgresFailed.ts"

const untilEmpty = Options.boolean("until-empty").pipe(
  Options.withDescription("Ends when everything that was committed is delivered or has become a failure.")
)

const allConfig = all({
  postgres: Config.postgres,
  clickHouse: Config.clickHouse,
  outbox: Config.outbox,
  relay: Config.relay,
  http: Config.http
})

type Configuration = Setting.Success<typeof allConfig>

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

const MAX_CONCURRENCY = 4

/** What the relay itself uses: a connection for each worker, one for sealing and tidying up, one for renewing leases. */
const connectionsOf = (relay: Config.Relay): number => relay.workers + 2

/**
 * The operator API, on the connections that the relay leaves to it; not at all if there are none. Whatever becomes of it
 * is logged, and no end to the relay.
 */
const serve = ({ http, postgres, relay }: Configuration): Effect.Effect<never, never, SqlClient.SqlClient> => {
  const concurrency = Math.min(MAX_CONCURRENCY, postgres.maxConnections - connectionsOf(relay))
  if (http.port !== "off" && concurrency < 1) {
    return Effect.zipRight(
      Effect.logWarning(
        `The operator API is not served: with OUTBOX_WORKERS at ${relay.workers} it needs a DATABASE_MAX_CONNECTIONS of at least ${connectionsOf(relay) + 1}, which is ${postgres.maxConnections}`
      ),
      Effect.never
    )
  }
  // Loaded only here: its libraries take longer to load than most commands to run.
  return Effect.promise(() => import("../Operator.ts")).pipe(
    Effect.flatMap((Operator) => Layer.launch(Operator.layer(http, { concurrency }))),
    Effect.provide([BatchFailures.layer, Operations.layer]),
    namePostgres(postgres),
    waitForPostgres(relay),
    Effect.tapErrorCause((cause) => Effect.logError("The operator API has ended", cause)),
    Effect.catchAllCause(() => Effect.never)
  )
}

/** A signal is the end that a relay was asked to wait for, unless it was another; see `Cli.teardown`. */
const exitCleanly = Effect.zipRight(
  Effect.logInfo("The relay has stopped"),
  Effect.sync(() => {
    process.exitCode = 0
  })
)

export const relay = Command.make("relay", { untilEmpty }, ({ untilEmpty }) =>
  Effect.gen(function* () {
    const config = yield* allConfig
    const store = Layer.effect(
      OutboxStore.OutboxStore,
      OutboxStore.make(config.outbox).pipe(namePostgres(config.postgres), waitForPostgres(config.relay))
    )
    const deliver = Effect.gen(function* () {
      const relay = yield* Relay.make({ ...config.relay, ...config.outbox })
      yield* Effect.logInfo("The relay has started")
      yield* untilEmpty ? relay.drain : raceFirst(relay.run, serve(config))
    }).pipe(
      Effect.provide(Layer.merge(store, ClickHouseSink.layer(config.clickHouse))),
      Effect.provide([Postgres.layer(config.postgres), ClickHouse.layer(config.clickHouse)]),
      namePostgres(config.postgres)
    )
    yield* untilEmpty ? deliver : Effect.onInterrupt(deliver, () => exitCleanly)
  })
).pipe(
  Command.withDescription(
    "Delivers what was committed, until SIGTERM or Ctrl-C. Any number of relays may run on one outbox."
  )
)
