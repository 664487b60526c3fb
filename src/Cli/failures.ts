/** `clickhouse-outbox failures`: what ClickHouse refused. Correcting it is in `edit.ts`. */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as Options from "@effect/cli/Options"
import type { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import {
  Arrivals,
  type AuditEntry,
  auditToJson,
  BatchFailure,
  BatchFailures,
  type FailedEvent,
  type FailureClosed,
  type FailureId,
  type FailureNotFound,
  type FailureNotReopened,
  FailureState,
  type Filter,
  layer,
  toJson
} from "../BatchFailures.ts"
import { prettyJson } from "../internal/jsonText.ts"
import { reasonOf } from "../internal/text.ts"
import * as Operations from "../Operations.ts"
import { ErrorClass } from "../SinkError.ts"
import { edit, replayEvent, reportReplayed } from "./edit.ts"
import { code, event, failureId, failurePage, flag, json, page, text, time } from "./options.ts"
import {
  count,
  errorName,
  fields,
  indented,
  indentedTable,
  jsonLine,
  more,
  oneLine,
  summary,
  table,
  times,
  trim,
  visible,
  visibleLines
} from "./print.ts"
import { withServices } from "./services.ts"
import { actor, confirm, isInteractive } from "./terminal.ts"

/** Which failures: everything given must hold. */
const filter = Options.all({
  errorClass: Options.optional(Options.choice("class", ErrorClass.literals)),
  code: code.pipe(Options.withDescription("ClickHouse's error code."), Options.optional),
  eventType: Options.text("type").pipe(
    Options.withPseudoName("event-type"),
    Options.withDescription("One of its events has this type."),
    Options.optional
  ),
  since: time("since").pipe(
    Options.withDescription("Last refused at this time or later: RFC 3339, a date in UTC, or 2h for two hours ago."),
    Options.optional
  ),
  until: time("until").pipe(Options.withDescription("Last refused before this time."), Options.optional)
}).pipe(
  Options.map(
    ({ code, errorClass, eventType, since, until }): Filter => ({
      ...(Option.isSome(errorClass) && { class: errorClass.value }),
      ...(Option.isSome(code) && { code: code.value }),
      ...(Option.isSome(eventType) && { eventType: eventType.value }),
      ...(Option.isSome(since) && { since: since.value }),
      ...(Option.isSome(until) && { until: until.value })
    })
  )
)

const state = Options.choice("state", FailureState.literals).pipe(Options.optional)

const list = Command.make("list", { state, filter, ...failurePage, json }, ({ after, filter, json, limit, state }) =>
  Effect.gen(function* () {
    const failures = yield* (yield* BatchFailures).list(
      { ...filter, ...(Option.isSome(state) && { state: state.value }) },
      { after: Option.getOrUndefined(after), limit }
    )
    yield* Console.log(json ? jsonLine(encodeAll(failures)) : yield* describeAll(failures, limit))
  }).pipe(withServices(layer))
).pipe(Command.withDescription("Lists what ClickHouse refused, newest first. Those that wait for you: --state open."))

const encodeAll = Schema.encodeSync(Schema.Array(BatchFailure))

const describeAll = (failures: ReadonlyArray<BatchFailure>, limit: number): Effect.Effect<string> =>
  Effect.map(times, (time) => {
    if (failures.length === 0) return "no failures"
    const rows = failures.map((failure) => [
      String(failure.id),
      failure.nextFailureId === null ? failure.state : `${failure.state} -> ${failure.nextFailureId}`,
      String(failure.eventCount),
      formatTypes(failure.eventTypes),
      errorName(failure.errorClass, failure.code),
      time(failure.lastSeenAt),
      summary(failure.message)
    ])
    return [
      table([["ID", "STATE", "EVENTS", "TYPE", "CLASS", "LAST SEEN", "MESSAGE"], ...rows]),
      ...more(failures, limit)
    ].join("\n")
  })

const TYPE_COLUMNS = 40

const formatTypes = ([first = "", ...others]: ReadonlyArray<string>): string =>
  trim(oneLine(first), TYPE_COLUMNS) + (others.length === 0 ? "" : ` +${others.length}`)

interface Shown {
  readonly failure: BatchFailure
  readonly arrivals: Arrivals
  readonly events: ReadonlyArray<FailedEvent>
  readonly audit: ReadonlyArray<AuditEntry>
}

const show = Command.make("show", { failureId, ...page, json }, ({ after, failureId, json, limit }) =>
  Effect.gen(function* () {
    const failures = yield* BatchFailures
    const shown = {
      failure: yield* failures.get(failureId),
      arrivals: yield* failures.arrivals([failureId]),
      events: yield* failures.events(failureId, { after: Option.getOrUndefined(after), limit }),
      audit: yield* failures.audit(failureId)
    }
    yield* Console.log(json ? encodeShown(shown) : yield* describeShown(shown, limit))
  }).pipe(withServices(layer))
).pipe(Command.withDescription("Shows a failure, its events, what operators did about it, and what can be done."))

const encode = Schema.encodeSync(BatchFailure)

/** Put together as text, so that no number loses a digit. */
const encodeShown = ({ arrivals, audit, events, failure }: Shown): string => {
  const head = JSON.stringify({ ...encode(failure), arrivals: Schema.encodeSync(Arrivals)(arrivals) }).slice(0, -1)
  return visible(`${head},"events":[${events.map(toJson).join()}],"audit":[${audit.map(auditToJson).join()}]}`)
}

const describeShown = ({ arrivals, audit, events, failure }: Shown, limit: number): Effect.Effect<string> =>
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
    ["batch", batchId === originBatchId ? String(batchId) : `${batchId}, split off ${originBatchId}`],
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
    [`clickhouse-outbox failures discard ${id} --note "..."`, "decide that it is not delivered"],
    [`clickhouse-outbox failures resolve ${id} --note "..."`, "say that you took care of it in another way"]
  ])
}

type ChangeError = FailureNotFound | FailureClosed | FailureNotReopened | SqlError

/** What failed for one failure does not keep the others from what was asked. */
export class SomeFailed extends Schema.TaggedError<SomeFailed>()("SomeFailed", {
  reasons: Schema.Array(Schema.String)
}) {
  override get message(): string {
    return this.reasons.join("\n")
  }
}

/** Tries each, shows what succeeded, and then fails if one did. */
const each = <A, E, R>(
  failureIds: Arr.NonEmptyReadonlyArray<FailureId>,
  change: (failureId: FailureId) => Effect.Effect<A, ChangeError>,
  show: (changed: ReadonlyArray<A>) => Effect.Effect<void, E, R>
) =>
  Effect.gen(function* () {
    const [errors, changed] = yield* Effect.partition(Arr.dedupe(failureIds), (failureId) =>
      Effect.mapError(change(failureId), (error) => ({ failureId, error }))
    )
    if (Arr.isNonEmptyArray(changed)) yield* show(changed)
    if (!Arr.isNonEmptyArray(errors)) return
    if (failureIds.length === 1) return yield* Effect.fail(Arr.headNonEmpty(errors).error)
    return yield* new SomeFailed({
      reasons: errors.map(({ error, failureId }) =>
        error._tag === "SqlError" ? `Failure ${failureId}: ${reasonOf(error)}` : error.message
      )
    })
  })

const replayOptions = {
  failureIds: Args.repeated(failureId),
  event: event.pipe(Options.withDescription("Replays this event of the failure only."), Options.optional),
  all: flag("all").pipe(Options.withDescription("Replays every open failure that matches.")),
  filter,
  yes: flag("yes").pipe(Options.withDescription("With --all: does not ask."))
}

const replay = Command.make("replay", replayOptions, ({ all, event, failureIds, filter, yes }) =>
  Effect.gen(function* () {
    const filtered = Object.keys(filter).length > 0
    if (all) {
      if (failureIds.length > 0 || Option.isSome(event)) return yield* new Usage({ reason: ALL_OR_IDS })
      if (!filtered && !yes) yield* confirmAll
      return yield* replayAll(filter)
    }
    if (filtered) return yield* new Usage({ reason: "What to replay by its properties needs --all" })
    if (!Arr.isNonEmptyArray(failureIds)) return yield* new Usage({ reason: ALL_OR_IDS })
    if (Option.isNone(event)) return yield* replayEach(failureIds)
    if (failureIds.length > 1) return yield* new Usage({ reason: "--event needs the one failure that has the event" })
    yield* replayEvent(Arr.headNonEmpty(failureIds), event.value)
  }).pipe(withServices(Layer.merge(layer, Operations.layer)))
).pipe(Command.withDescription("Publishes refused events again, under the same ids. Each arrives once."))

const ALL_OR_IDS = "Name either the failures to replay, or --all"

export class Usage extends Schema.TaggedError<Usage>()("Usage", { reason: Schema.String }) {
  override get message(): string {
    return `${this.reason}. See "clickhouse-outbox failures replay --help"`
  }
}

export class NotConfirmed extends Schema.TaggedError<NotConfirmed>()("NotConfirmed", { reason: Schema.String }) {
  override get message(): string {
    return this.reason
  }
}

const confirmAll = Effect.gen(function* () {
  if (!isInteractive()) {
    return yield* new NotConfirmed({ reason: "To replay every open failure, say --yes, or say which" })
  }
  const { events, failures } = (yield* (yield* Operations.Operations).status).openFailures
  const what = `${count(failures, "open failure")}, with ${count(events, "event")}`
  if (!(yield* confirm(`Replay ${what}?`, false))) return yield* new NotConfirmed({ reason: "Nothing was replayed" })
})

const replayAll = (filter: Filter) =>
  Effect.gen(function* () {
    const { replayAll } = yield* BatchFailures
    yield* reportReplayed([yield* replayAll(filter, { actor: yield* actor })])
  })

const replayEach = (failureIds: Arr.NonEmptyReadonlyArray<FailureId>) =>
  Effect.gen(function* () {
    const { replay } = yield* BatchFailures
    const who = yield* actor
    yield* each(failureIds, (id) => replay(id, { actor: who }), reportReplayed)
  })

const failureIds = Args.atLeast(failureId, 1)

const discard = Command.make(
  "discard",
  { failureIds, note: text("note").pipe(Options.withDescription("Why, for those who ask later.")) },
  ({ failureIds, note }) =>
    Effect.gen(function* () {
      const { discard } = yield* BatchFailures
      const who = yield* actor
      yield* each(
        failureIds,
        (id) => discard(id, { note, actor: who }),
        (closed) => Console.log(closed.map(({ id }) => `discarded failure ${id}`).join("\n"))
      )
    }).pipe(withServices(layer))
).pipe(Command.withDescription("Decides that what was not replayed is never delivered."))

const resolve = Command.make(
  "resolve",
  { failureIds, note: text("note").pipe(Options.withDescription("How, for those who ask later.")) },
  ({ failureIds, note }) =>
    Effect.gen(function* () {
      const { resolve } = yield* BatchFailures
      const who = yield* actor
      yield* each(
        failureIds,
        (id) => resolve(id, { note, actor: who }),
        (closed) => Console.log(closed.map(({ id }) => `resolved failure ${id}`).join("\n"))
      )
    }).pipe(withServices(layer))
).pipe(Command.withDescription("Writes down that somebody took care of it in another way."))

const reopen = Command.make("reopen", { failureIds }, ({ failureIds }) =>
  Effect.gen(function* () {
    const { reopen } = yield* BatchFailures
    const who = yield* actor
    yield* each(
      failureIds,
      (id) => reopen(id, { actor: who }),
      (reopened) => Console.log(reopened.map(({ id }) => `reopened failure ${id}`).join("\n"))
    )
  }).pipe(withServices(layer))
).pipe(Command.withDescription("Takes back that it was discarded or resolved. What was replayed stays published."))

export const failures = Command.make("failures").pipe(
  Command.withDescription("What ClickHouse refused: read it, correct it, publish it again, close it or reopen it."),
  Command.withSubcommands([list, show, edit, replay, discard, resolve, reopen])
)
