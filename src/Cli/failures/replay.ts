/** `clickhouse-outbox failures replay` */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as Options from "@effect/cli/Options"
import * as Arr from "effect/Array"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Number from "effect/Number"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as BatchFailures from "../../BatchFailures.ts"
import type { EventId } from "../../Event.ts"
import * as Operations from "../../Operations.ts"
import { actor } from "../actor.ts"
import { event, failureId } from "../options.ts"
import { withServices } from "../services.ts"
import { confirm, isInteractive } from "../terminal.ts"
import { count } from "../text.ts"
import { each } from "./each.ts"
import { filter } from "./filter.ts"

const options = {
  failureIds: Args.repeated(failureId),
  event: event.pipe(Options.withDescription("Replays this event of the failure only."), Options.optional),
  all: Options.boolean("all").pipe(Options.withDescription("Replays every open failure that matches.")),
  filter,
  yes: Options.boolean("yes").pipe(Options.withDescription("With --all: does not ask."))
}

export const replay = Command.make("replay", options, ({ all, event, failureIds, filter, yes }) =>
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
  }).pipe(withServices(Layer.merge(BatchFailures.layer, Operations.layer)))
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

const replayAll = (filter: BatchFailures.Filter) =>
  Effect.gen(function* () {
    const { replayAll } = yield* BatchFailures.BatchFailures
    yield* report([yield* replayAll(filter, { actor: yield* actor })])
  })

const replayEach = (failureIds: Arr.NonEmptyReadonlyArray<BatchFailures.FailureId>) =>
  Effect.gen(function* () {
    const { replay } = yield* BatchFailures.BatchFailures
    const who = yield* actor
    yield* each(failureIds, (id) => replay(id, { actor: who }), report)
  })

/** Publishes one event again, and says so. */
export const replayEvent = (failureId: BatchFailures.FailureId, eventId: EventId) =>
  Effect.gen(function* () {
    const { replayEvent } = yield* BatchFailures.BatchFailures
    yield* report([yield* replayEvent(failureId, { eventId, actor: yield* actor })])
  })

const report = (replayed: ReadonlyArray<BatchFailures.Replayed>) => {
  const events = Number.sumAll(replayed.map(({ events }) => events))
  const failures = Number.sumAll(replayed.map(({ failures }) => failures.length))
  return Console.log(`replayed ${count(events, "event")} of ${count(failures, "failure")}`)
}
