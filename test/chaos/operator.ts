/** What an operator does about the failures of a round: corrects some events, replays some, discards the rest. */
import * as Effect from "effect/Effect"
import { FailureId } from "../../src/Batch.ts"
import { Actor, BatchFailures } from "../../src/BatchFailures.ts"
import { EventId } from "../../src/Event.ts"
import { digest, type WrittenEvent } from "./journal.ts"
import type { Committed } from "./judge.ts"
import { openFailures } from "./observe.ts"

const ACTOR = Actor.make("chaos")
const CORRECTED = { corrected: true }

/** Every second refused event is corrected. All are replayed, so those that were not come back as failures. */
export const correctAndReplay = (committed: Committed, written: ReadonlyMap<string, WrittenEvent>) =>
  Effect.gen(function* () {
    const failures = yield* BatchFailures
    const refused = (yield* openFailures).filter(({ eventId }) => written.get(eventId)?.isRefused === true)
    const chosen = refused.filter((_, n) => n % 2 === 0)
    for (const { eventId, failureId: id } of chosen) {
      const event = written.get(eventId)
      const expected = committed.events.get(eventId)
      if (event === undefined || expected === undefined) continue
      yield* failures.correct(FailureId.make(id), {
        eventId: EventId.make(eventId),
        correction: JSON.stringify({ event_context: CORRECTED }),
        actor: ACTOR
      })
      committed.events.set(eventId, { ...expected, place: "table", digest: digest({ ...event, context: CORRECTED }) })
    }
    yield* failures.replayAll({}, { actor: ACTOR })
  })

/** Good events that were parked once more are replayed, bad ones are discarded. True if nothing was left to do. */
export const closeAll = (committed: Committed) =>
  Effect.gen(function* () {
    const failures = yield* BatchFailures
    const open = yield* openFailures
    for (const { eventId, failureId: id } of open) {
      const expected = committed.events.get(eventId)
      if (expected?.place === "table")
        yield* failures.replayEvent(FailureId.make(id), { eventId: EventId.make(eventId), actor: ACTOR })
      else if (expected !== undefined) committed.events.set(eventId, { ...expected, place: "nowhere" })
    }
    const bad = open.filter(({ eventId }) => committed.events.get(eventId)?.place !== "table")
    for (const id of new Set(bad.map((event) => event.failureId))) {
      yield* failures.discard(FailureId.make(id), { note: "refused on purpose", actor: ACTOR })
    }
    return open.length === 0
  })
