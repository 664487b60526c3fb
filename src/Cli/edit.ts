/** `clickhouse-outbox failures edit` */
import { buffer } from "node:stream/consumers"
import * as Command from "@effect/cli/Command"
import * as Options from "@effect/cli/Options"
import * as Arr from "effect/Array"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Number from "effect/Number"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import {
  type BatchFailure,
  BatchFailures,
  CORRECTABLE,
  type CorrectionInvalid,
  EventReplayed,
  type FailedEvent,
  FailureClosed,
  FailureId,
  layer,
  type Replayed,
  toJson
} from "../BatchFailures.ts"
import type { EventId } from "../Event.ts"
import { fromRawMembers, prettyJson, rawMembers } from "../internal/jsonText.ts"
import { reasonOf } from "../internal/text.ts"
import { event, failureId, flag, metadataVersion } from "./options.ts"
import { count, visibleLines } from "./print.ts"
import { withServices } from "./services.ts"
import { actor, confirm, draft, isInteractive } from "./terminal.ts"

/** The options that correct an event. */
export interface Given {
  readonly context: Option.Option<string>
  readonly type: Option.Option<string>
  readonly version: Option.Option<string>
  readonly time: Option.Option<string>
}

const given: Options.Options<Given> = Options.all({
  context: Options.text("context").pipe(
    Options.withPseudoName("json"),
    Options.withDescription("What its context is to be. - reads standard input."),
    Options.optional
  ),
  type: Options.text("type").pipe(
    Options.withPseudoName("event-type"),
    Options.withDescription("What its type is to be."),
    Options.optional
  ),
  version: metadataVersion.pipe(Options.withDescription("What its metadata_version is to be."), Options.optional),
  time: Options.text("time").pipe(
    Options.withPseudoName("time"),
    Options.withDescription("What its event_date_time is to be, in RFC 3339."),
    Options.optional
  )
})

/** The options as the JSON text that `BatchFailures.correct` takes; none if there was no option. */
const toCorrection = ({ context, time, type, version }: Given) =>
  Effect.gen(function* () {
    const members: ReadonlyArray<readonly [string, Option.Option<string>]> = [
      ["event_context", yield* Effect.transposeMapOption(context, readContext)],
      ["event_type", Option.map(type, (text) => JSON.stringify(text))],
      ["metadata_version", version],
      ["event_date_time", Option.map(time, (text) => JSON.stringify(text))]
    ]
    const changed = members.flatMap(([name, json]) => (Option.isSome(json) ? [[name, json.value] as const] : []))
    return changed.length === 0 ? Option.none() : Option.some(fromRawMembers(changed))
  })

export class NotJson extends Schema.TaggedError<NotJson>()("NotJson", { reason: Schema.String }) {
  override get message(): string {
    return `--context is not JSON: ${this.reason}`
  }
}

const notJson = (cause: unknown) => new NotJson({ reason: reasonOf(cause) })

/** Parsed only to see that it is JSON: what goes on is the text, in which numbers have all their digits. */
const readContext = (text: string): Effect.Effect<string, NotJson> =>
  Effect.tap(text === "-" ? standardInput : Effect.succeed(text), (context) =>
    Effect.try({ try: () => JSON.parse(context), catch: notJson })
  )

const utf8 = new TextDecoder("utf-8", { fatal: true })

const standardInput = Effect.tryPromise({
  try: async () => utf8.decode(await buffer(process.stdin)),
  catch: notJson
})

const options = {
  failureId,
  event: event.pipe(Options.withDescription("Which event, where the failure has several."), Options.optional),
  given,
  replay: flag("replay").pipe(Options.withDescription("Publishes the corrected event again at once."))
}

export const edit = Command.make("edit", options, ({ event: eventId, failureId, given, replay }) =>
  Effect.gen(function* () {
    const event = yield* findEvent(yield* (yield* BatchFailures).get(failureId), eventId)
    const corrected = yield* Option.match(yield* toCorrection(given), {
      onNone: () => editInEditor(event),
      onSome: (correction) => Effect.asSome(correct(event, correction))
    })
    if (Option.isNone(corrected))
      return yield* replay ? new NothingReplayed({ failureId }) : Console.log("nothing changed")
    yield* Console.log(`corrected event ${event.eventId} of failure ${failureId}`)
    if (replay) yield* replayEvent(failureId, event.eventId)
  }).pipe(withServices(layer))
).pipe(
  Command.withDescription(
    "Corrects a refused event: by options, or without them in the editor that VISUAL or EDITOR names."
  )
)

/** Whoever empties the text calls the correction off, and with it the replay. */
export class NothingReplayed extends Schema.TaggedError<NothingReplayed>()("NothingReplayed", {
  failureId: FailureId
}) {
  override get message(): string {
    return `Nothing was changed, so nothing was replayed. "clickhouse-outbox failures replay ${this.failureId}" replays it as it is`
  }
}

export class WhichEvent extends Schema.TaggedError<WhichEvent>()("WhichEvent", {
  failureId: FailureId,
  eventCount: Schema.Int
}) {
  override get message(): string {
    return `Failure ${this.failureId} has ${this.eventCount} events: say which with --event. "clickhouse-outbox failures show ${this.failureId}" lists their ids`
  }
}

/** What could not be corrected fails here, before anybody edits it. */
const findEvent = ({ eventCount, id: failureId, state }: BatchFailure, eventId: Option.Option<EventId>) =>
  Effect.gen(function* () {
    const failures = yield* BatchFailures
    if (state !== "open") return yield* new FailureClosed({ failureId, state })
    if (Option.isNone(eventId) && eventCount > 1) return yield* new WhichEvent({ failureId, eventCount })
    const event = Option.isSome(eventId)
      ? yield* failures.event(failureId, eventId.value)
      : yield* Effect.orDie(Arr.head(yield* failures.events(failureId, { limit: 1 })))
    if (event.replayedAt !== null) return yield* new EventReplayed({ failureId, eventId: event.eventId })
    return event
  })

const correct = ({ eventId, failureId }: FailedEvent, correction: string) =>
  Effect.gen(function* () {
    return yield* (yield* BatchFailures).correct(failureId, { eventId, correction, actor: yield* actor })
  })

/** Publishes one event again, and says so. */
export const replayEvent = (failureId: FailureId, eventId: EventId) =>
  Effect.gen(function* () {
    const { replayEvent } = yield* BatchFailures
    yield* reportReplayed([yield* replayEvent(failureId, { eventId, actor: yield* actor })])
  })

export const reportReplayed = (replayed: ReadonlyArray<Replayed>) => {
  const events = Number.sumAll(replayed.map(({ events }) => events))
  const failures = Number.sumAll(replayed.map(({ failures }) => failures.length))
  return Console.log(`replayed ${count(events, "event")} of ${count(failures, "failure")}`)
}

/** None if nothing was changed. The file is kept if what was written could not be used. */
const editInEditor = (event: FailedEvent) =>
  Effect.gen(function* () {
    const original = toDraft(event)
    const file = yield* draft({ name: "event.json", text: original })
    const editOnce = Effect.flatMap(file.edit, (text) =>
      Effect.transposeMapOption(changesOf({ draft: original, edited: text }), (correction) =>
        correct(event, correction)
      )
    )
    return yield* editOnce.pipe(
      Effect.retry({ while: (error) => error._tag === "CorrectionInvalid" && isInteractive() && askAgain(error) }),
      Effect.tapError(({ _tag }) =>
        _tag === "EditorFailed"
          ? Effect.void
          : Effect.zipRight(file.keep, Console.error(`What you wrote is kept in ${file.path}`))
      )
    )
  }).pipe(Effect.scoped)

const askAgain = ({ message }: CorrectionInvalid) =>
  Effect.zipRight(Console.error(visibleLines(message)), confirm("Edit again?", true))

/** What can be corrected about an event, for people to edit. */
const toDraft = (event: FailedEvent): string => {
  const members = rawMembers(toJson(event))
  return `${prettyJson(fromRawMembers(CORRECTABLE.map((name) => [name, members.get(name) ?? "null"])))}\n`
}

/**
 * What was changed in a draft: only that, so that what others correct meanwhile stays. What is no JSON object is passed
 * on as it is: the correction fails with the reason.
 */
const changesOf = ({ draft, edited }: { readonly draft: string; readonly edited: string }): Option.Option<string> => {
  // Also without a byte order mark, which some editors write.
  const text = edited.trim()
  if (text === "") return Option.none()
  if (!isObject(text)) return Option.some(text)
  const was = rawMembers(draft)
  const changed = [...rawMembers(text)].filter(([name, json]) => {
    const before = was.get(name)
    return before === undefined || prettyJson(before) !== prettyJson(json)
  })
  return changed.length === 0 ? Option.none() : Option.some(fromRawMembers(changed))
}

const isObject = (text: string): boolean => {
  try {
    return Predicate.isReadonlyRecord(JSON.parse(text))
  } catch {
    return false
  }
}
