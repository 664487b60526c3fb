/** `clickhouse-outbox restamp` */
import * as Command from "@effect/cli/Command"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Config from "../Config.ts"
import * as OutboxStore from "../OutboxStore.ts"
import * as Postgres from "../Postgres.ts"
import { namePostgres } from "./PostgresFailed.ts"

export const restamp = Command.make("restamp", {}, () =>
  Effect.gen(function* () {
    const config = yield* Config.postgres
    const { batches, events } = yield* OutboxStore.restamp.pipe(
      Effect.provide(Postgres.layerPinned(config)),
      namePostgres(config)
    )
    yield* Console.log(`restamped ${events} events, in ${batches} batches`)
  })
).pipe(
  Command.withDescription(
    "Repairs the outbox of a database that was restored from a dump or upgraded. Stop all relays before."
  )
)
