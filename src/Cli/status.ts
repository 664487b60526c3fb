/** `clickhouse-outbox status` */
import * as Command from "@effect/cli/Command"
import * as Options from "@effect/cli/Options"
import { all } from "effect/Config"
import * as Console from "effect/Console"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Config from "../Config.ts"
import * as OutboxStore from "../OutboxStore.ts"
import * as Postgres from "../Postgres.ts"
import { namePostgres } from "./PostgresFailed.ts"

const json = Options.boolean("json").pipe(Options.withDescription("Prints one JSON object."))

export const status = Command.make("status", { json }, ({ json }) =>
  Effect.gen(function* () {
    const config = yield* all({ postgres: Config.postgres, outbox: Config.outbox })
    const status = yield* Effect.flatMap(OutboxStore.OutboxStore, (store) => store.status).pipe(
      Effect.provide(OutboxStore.layer(config.outbox)),
      Effect.provide(Postgres.layer(config.postgres)),
      namePostgres(config.postgres)
    )
    yield* Console.log(json ? JSON.stringify(forPrograms(status)) : forPeople(status))
  })
).pipe(Command.withDescription("Says what is undelivered, for how long, and why."))

/** These names are a contract. */
const forPrograms = (status: OutboxStore.OutboxStatus) => ({
  backlog: status.backlog,
  oldest_undelivered_ms: status.oldestUndeliveredMillis && Math.round(status.oldestUndeliveredMillis),
  unsealed: status.unsealed,
  batches: status.batches,
  failures: status.failures,
  open_incidents: status.incidents,
  relay_hold: status.held,
  last_delivered_at: status.lastDeliveredAt,
  last_error: status.lastError && {
    batch_id: status.lastError.batchId,
    class: status.lastError.errorClass,
    code: status.lastError.code,
    message: status.lastError.message,
    attempts: status.lastError.attempts
  }
})

const forPeople = (status: OutboxStore.OutboxStatus): string => {
  const { backlog, batches, failures, held, incidents, lastDeliveredAt, lastError, oldestUndeliveredMillis, unsealed } =
    status
  const waits = oldestUndeliveredMillis === null ? "" : `, the oldest for ${formatMillis(oldestUndeliveredMillis)}`
  const states = Object.entries(batches).map(([state, count]) => `${count} ${state}`)
  return [
    `undelivered    ${backlog} events${waits}`,
    `not in batches ${unsealed} events`,
    `batches        ${states.join(", ")}`,
    `failures       ${failures.open} open, with ${failures.events} events`,
    `incidents      ${incidents} open`,
    `relays         ${held === null ? "not held" : `held by ${held.by} since ${held.since.toISOString()}: ${held.reason}`}`,
    `last delivery  ${lastDeliveredAt?.toISOString() ?? "never"}`,
    `last error     ${lastError === null ? "none" : formatError(lastError)}`
  ].join("\n")
}

const formatMillis = (millis: number): string => Duration.format(Duration.millis(Math.round(millis)))

const MAX_ERROR_CHARACTERS = 500

/** In one line, whatever ClickHouse quotes from the events. */
const formatError = ({ attempts, batchId, errorClass, message }: LastError): string => {
  const text = message.replaceAll(/[\s\p{Cc}]+/gu, " ").slice(0, MAX_ERROR_CHARACTERS)
  return `batch ${batchId}, ${attempts} ${attempts === 1 ? "attempt" : "attempts"}, ${errorClass}: ${text}`
}

type LastError = NonNullable<OutboxStore.OutboxStatus["lastError"]>
