/** `clickhouse-outbox status`, `… where`, `… pause` and `… resume` */
import * as Command from "@effect/cli/Command"
import * as Options from "@effect/cli/Options"
import * as Console from "effect/Console"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { layer, Operations, type Place, Whereabouts } from "../Operations.ts"
import { OutboxStatus } from "../OutboxStore.ts"
import { eventId, json, text } from "./options.ts"
import { count, fields, jsonLine, oneLine, times, visible } from "./print.ts"
import { withServices } from "./services.ts"
import { actor } from "./terminal.ts"

export const status = Command.make("status", { json }, ({ json }) =>
  Effect.gen(function* () {
    const { status } = yield* Operations
    const current = yield* status
    yield* Console.log(json ? jsonLine(Schema.encodeSync(OutboxStatus)(current)) : describeStatus(current))
  }).pipe(withServices(layer))
).pipe(Command.withDescription("Says what is undelivered, for how long, and why."))

const describeStatus = (status: OutboxStatus): string => {
  const { backlog, batches, lastDeliveredAt, lastError, oldestUndeliveredMillis, openFailures, relayPause } = status
  const waits = oldestUndeliveredMillis === null ? "" : `, the oldest for ${duration(oldestUndeliveredMillis)}`
  const states = Object.entries(batches).map(([state, count]) => `${count} ${state}`)
  return fields([
    ["undelivered", `${count(backlog, "event")}${waits}`],
    ["not in batches", count(status.unsealed, "event")],
    ["batches", states.join(", ")],
    ["failures", `${openFailures.failures} open, with ${count(openFailures.events, "event")}`],
    ["incidents", `${status.openIncidents} open`],
    ["relays", relayPause === null ? "not paused" : describePause(relayPause)],
    ["last delivery", lastDeliveredAt?.toISOString() ?? "never"],
    ["last error", lastError === null ? "none" : describeError(lastError)]
  ])
}

const duration = (millis: number): string => Duration.format(Duration.millis(millis))

const describePause = ({ pausedAt, pausedBy, reason }: NonNullable<OutboxStatus["relayPause"]>): string =>
  oneLine(`take no batch: paused by ${pausedBy} since ${pausedAt.toISOString()}: ${reason}`)

const MAX_ERROR_CHARACTERS = 500

const describeError = ({ attempts, batchId, errorClass, message }: NonNullable<OutboxStatus["lastError"]>): string => {
  const text = oneLine(message).slice(0, MAX_ERROR_CHARACTERS)
  return `batch ${batchId}, ${count(attempts, "attempt")}, ${errorClass}: ${text}`
}

export const where = Command.make("where", { eventId, json }, ({ eventId, json }) =>
  Effect.gen(function* () {
    const found = yield* (yield* Operations).where(eventId)
    yield* Console.log(json ? jsonLine(encodeWhere(found)) : yield* describeWhere(found))
  }).pipe(withServices(layer))
).pipe(Command.withDescription("Says where an event is: pending, delivered or failed, in which batch and failure."))

const encodeWhere = Schema.encodeSync(Whereabouts)

const describeWhere = ({ eventId, places, state }: Whereabouts): Effect.Effect<string> =>
  Effect.map(times, (time) =>
    [`event ${eventId} is ${state}`, ...places.map((place) => describePlace(place, time))].join("\n")
  )

const describePlace = (place: Place, time: (time: Date) => string): string => {
  const { batchId, batchState, deliveredAt, failureId, failureState, replayedAt } = place
  return [
    "",
    `  ${place.state}: ${visible(place.eventType)} of ${place.eventDateTime}`,
    `  published ${time(place.publishedAt)}`,
    batchId === null ? "  in no batch yet" : `  in batch ${batchId}${batchState === null ? "" : `, ${batchState}`}`,
    ...(failureId === null ? [] : [`  in failure ${failureId}, ${failureState}`]),
    ...(failureId === null && batchState === "failed" ? ["  its failure was closed, and deleted since"] : []),
    ...(deliveredAt === null ? [] : [`  delivered ${time(deliveredAt)}`]),
    ...(replayedAt === null ? [] : [`  replayed ${time(replayedAt)}`])
  ].join("\n")
}

export const pause = Command.make(
  "pause",
  { reason: text("reason").pipe(Options.withDescription("Why, for whoever finds them paused.")) },
  ({ reason }) =>
    Effect.gen(function* () {
      yield* (yield* Operations).pause({ reason, actor: yield* actor })
      yield* Console.log('paused: no relay takes a batch until "clickhouse-outbox resume"')
    }).pipe(withServices(layer))
).pipe(Command.withDescription("Lets no relay take a batch until resume. Those in flight are finished."))

export const resume = Command.make("resume", {}, () =>
  Effect.gen(function* () {
    const { pausedAt, pausedBy, reason } = yield* (yield* Operations).resume({ actor: yield* actor })
    const time = yield* times
    yield* Console.log(`resumed; paused by ${visible(pausedBy)} since ${time(pausedAt)}: ${visible(reason)}`)
  }).pipe(withServices(layer))
).pipe(Command.withDescription("Lets relays take batches again."))
