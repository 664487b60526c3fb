/** `clickhouse-outbox status` */
import * as Command from "@effect/cli/Command"
import * as Console from "effect/Console"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Operations from "../Operations.ts"
import { OutboxStatus } from "../OutboxStore.ts"
import { json } from "./options.ts"
import { withServices } from "./services.ts"
import { fields } from "./table.ts"
import { count, jsonLine, oneLine } from "./text.ts"

export const status = Command.make("status", { json }, ({ json }) =>
  Effect.gen(function* () {
    const { status } = yield* Operations.Operations
    const current = yield* status
    yield* Console.log(json ? jsonLine(Schema.encodeSync(OutboxStatus)(current)) : forPeople(current))
  }).pipe(withServices(Operations.layer))
).pipe(Command.withDescription("Says what is undelivered, for how long, and why."))

const forPeople = (status: OutboxStatus): string => {
  const { backlog, batches, lastDeliveredAt, lastError, oldestUndeliveredMillis, openFailures, relayPause } = status
  const waits = oldestUndeliveredMillis === null ? "" : `, the oldest for ${formatMillis(oldestUndeliveredMillis)}`
  const states = Object.entries(batches).map(([state, count]) => `${count} ${state}`)
  return fields([
    ["undelivered", `${count(backlog, "event")}${waits}`],
    ["not in batches", count(status.unsealed, "event")],
    ["batches", states.join(", ")],
    ["failures", `${openFailures.failures} open, with ${count(openFailures.events, "event")}`],
    ["incidents", `${status.openIncidents} open`],
    ["relays", relayPause === null ? "not paused" : formatPause(relayPause)],
    ["last delivery", lastDeliveredAt?.toISOString() ?? "never"],
    ["last error", lastError === null ? "none" : formatError(lastError)]
  ])
}

const formatMillis = (millis: number): string => Duration.format(Duration.millis(millis))

const formatPause = ({ pausedAt, pausedBy, reason }: NonNullable<OutboxStatus["relayPause"]>): string =>
  oneLine(`take no batch: paused by ${pausedBy} since ${pausedAt.toISOString()}: ${reason}`)

const MAX_ERROR_CHARACTERS = 500

const formatError = ({ attempts, batchId, errorClass, message }: NonNullable<OutboxStatus["lastError"]>): string => {
  const text = oneLine(message).slice(0, MAX_ERROR_CHARACTERS)
  return `batch ${batchId}, ${count(attempts, "attempt")}, ${errorClass}: ${text}`
}
