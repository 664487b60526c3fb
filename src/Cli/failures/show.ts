/** `clickhouse-outbox failures show` */
import * as Command from "@effect/cli/Command"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import {
  Arrivals,
  type AuditEntry,
  auditToJson,
  BatchFailure,
  BatchFailures,
  type FailedEvent,
  layer,
  toJson
} from "../../BatchFailures.ts"
import { failureId, json, page } from "../options.ts"
import { prettyJson } from "../prettyJson.ts"
import { withServices } from "../services.ts"
import { fields, indentedTable } from "../table.ts"
import { count, indented, times, visible, visibleLines } from "../text.ts"
import { errorName, more } from "../wording.ts"

interface Shown {
  readonly failure: BatchFailure
  readonly arrivals: Arrivals
  readonly events: ReadonlyArray<FailedEvent>
  readonly audit: ReadonlyArray<AuditEntry>
}

export const show = Command.make("show", { failureId, ...page, json }, ({ after, failureId, json, limit }) =>
  Effect.gen(function* () {
    const failures = yield* BatchFailures
    const shown = {
      failure: yield* failures.get(failureId),
      arrivals: yield* failures.arrivals([failureId]),
      events: yield* failures.events(failureId, { after: Option.getOrUndefined(after), limit }),
      audit: yield* failures.audit(failureId)
    }
    yield* Console.log(json ? forPrograms(shown) : yield* forPeople(shown, limit))
  }).pipe(withServices(layer))
).pipe(Command.withDescription("Shows a failure, its events, what operators did about it, and what can be done."))

const encode = Schema.encodeSync(BatchFailure)

/** Put together as text, so that no number loses a digit. */
const forPrograms = ({ arrivals, audit, events, failure }: Shown): string => {
  const head = JSON.stringify({ ...encode(failure), arrivals: Schema.encodeSync(Arrivals)(arrivals) }).slice(0, -1)
  return visible(`${head},"events":[${events.map(toJson).join()}],"audit":[${audit.map(auditToJson).join()}]}`)
}

const forPeople = ({ arrivals, audit, events, failure }: Shown, limit: number): Effect.Effect<string> =>
  Effect.map(times, (time) =>
    [
      describe(failure, arrivals, time),
      `message\n${indented(visibleLines(failure.message.trim()))}`,
      ...events.map((event) => describeEvent(event, time)),
      ...more(events, limit),
      ...(audit.length === 0 ? [] : [`done\n${describeAudit(audit, time)}`]),
      `to do\n${indented(whatNext(failure))}`
    ].join("\n\n")
  )

type Time = (time: Date) => string

const when = (title: string, time: Date | null, format: Time) => (time === null ? [] : [[title, format(time)]])

const describe = (failure: BatchFailure, { delivered, failed, pending }: Arrivals, time: Time): string => {
  const { batchId, nextFailureId, originBatchId, previousFailureId } = failure
  return fields([
    ["failure", `${failure.id}, ${failure.state}`],
    ["events", `${failure.eventCount}, ${failure.replayedCount} of them replayed`],
    ...(failure.replayedCount === 0
      ? []
      : [["replayed", `${delivered} delivered, ${pending} pending, ${failed} failed again`]]),
    ["types", failure.eventTypes.join(", ")],
    ...(failure.parked ? [["parked", "not examined one by one: there may be good events among them"]] : []),
    ["refused", `${errorName(failure.errorClass, failure.code)}, ${count(failure.attempts, "attempt")}`],
    ["first seen", time(failure.firstSeenAt)],
    ["last seen", time(failure.lastSeenAt)],
    ["batch", batchId === originBatchId ? String(batchId) : `${batchId}, cut out of ${originBatchId}`],
    ...(previousFailureId === null ? [] : [["replayed from", `failure ${previousFailureId}`]]),
    ...when("closed", failure.closedAt, time),
    ...(nextFailureId === null ? [] : [["refused again", `failure ${nextFailureId}`]]),
    ...(failure.note === null ? [] : [["note", failure.note]])
  ])
}

const describeEvent = (event: FailedEvent, time: Time): string =>
  [
    `event ${event.eventId}`,
    indented(
      fields([
        ["id", String(event.id)],
        ["type", event.eventType],
        ["time", event.eventDateTime],
        ["version", event.metadataVersion],
        ["environment", event.environment],
        ["published", event.publishedAt],
        ...(event.traceparent === null ? [] : [["trace", event.traceparent]]),
        ...when("corrected", event.correctedAt, time),
        ...when("replayed", event.replayedAt, time)
      ])
    ),
    indented(prettyJson(event.eventContext))
  ].join("\n")

const describeAudit = (audit: ReadonlyArray<AuditEntry>, time: Time): string =>
  indentedTable(
    audit.map(({ action, actor, after, before, eventId, occurredAt }) => [
      time(occurredAt),
      actor,
      action,
      eventId ?? "",
      `${before} -> ${after}`
    ])
  )

/** To copy. */
const whatNext = ({ eventCount, id, nextFailureId, state }: BatchFailure): string => {
  if (nextFailureId !== null) {
    return fields([[`clickhouse-outbox failures show ${nextFailureId}`, "see what was refused again"]])
  }
  if (state === "replayed") return fields([["clickhouse-outbox where EVENT_ID", "see where an event is now"]])
  if (state !== "open") {
    return fields([[`clickhouse-outbox failures reopen ${id}`, "take back that it was closed"]])
  }
  const event = eventCount > 1 ? " --event EVENT_ID" : ""
  return fields([
    [`clickhouse-outbox failures edit ${id}${event}`, "correct what was refused"],
    [`clickhouse-outbox failures replay ${id}`, "publish it again"],
    [`clickhouse-outbox failures discard ${id} --reason "..."`, "decide that it is not delivered"],
    [`clickhouse-outbox failures resolve ${id} --note "..."`, "say that you took care of it in another way"]
  ])
}
