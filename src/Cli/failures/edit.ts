/** `clickhouse-outbox failures edit` */
import * as Command from "@effect/cli/Command"
import * as Options from "@effect/cli/Options"
import * as Arr from "effect/Array"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import {
  type BatchFailure,
  BatchFailures,
  type CorrectionInvalid,
  EventReplayed,
  type FailedEvent,
  FailureClosed,
  FailureId,
  layer
} from "../../BatchFailures.ts"
import type { EventId } from "../../Event.ts"
import { actor } from "../actor.ts"
import * as Editor from "../editor.ts"
import { event, failureId } from "../options.ts"
import { withServices } from "../services.ts"
import { confirm, isInteractive } from "../terminal.ts"
import { visibleLines } from "../text.ts"
import { changesOf, toDraft } from "./correction.ts"
import * as Given from "./given.ts"
import { replayEvent } from "./replay.ts"

const options = {
  failureId,
  event: event.pipe(Options.withDescription("Which event, where the failure has several."), Options.optional),
  given: Given.options,
  replay: Options.boolean("replay").pipe(Options.withDescription("Publishes the corrected event again at once."))
}

export const edit = Command.make("edit", options, ({ event: eventId, failureId, given, replay }) =>
  Effect.gen(function* () {
    const event = yield* findEvent(yield* (yield* BatchFailures).get(failureId), eventId)
    const corrected = yield* Option.match(yield* Given.toCorrection(given), {
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

/** An emptied text calls the correction off, and so what was to follow it. */
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

/** Refuses before anything is edited what would be refused after it. */
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

/** None if nothing was changed. What was written and not taken is not thrown away. */
const editInEditor = (event: FailedEvent) =>
  Effect.gen(function* () {
    const original = toDraft(event)
    const draft = yield* Editor.draft("event.json", original)
    const editOnce = Effect.flatMap(draft.edit, (text) =>
      Effect.transposeMapOption(changesOf(original, text), (correction) => correct(event, correction))
    )
    return yield* editOnce.pipe(
      Effect.retry({ while: (error) => error._tag === "CorrectionInvalid" && isInteractive() && askAgain(error) }),
      Effect.tapError(({ _tag }) =>
        _tag === "EditorFailed"
          ? Effect.void
          : Effect.zipRight(draft.keep, Console.error(`What you wrote is kept in ${draft.path}`))
      )
    )
  }).pipe(Effect.scoped)

const askAgain = ({ message }: CorrectionInvalid) =>
  Effect.zipRight(Console.error(visibleLines(message)), confirm("Edit again?", true))
