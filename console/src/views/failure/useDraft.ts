import { useState } from "react"
import type { Correction, EventText } from "../../api/eventText.ts"
import { syntaxProblem } from "../../json/syntax.ts"

export interface Draft {
  readonly context: string
  readonly type: string
  readonly time: string
  readonly version: string
}

const draftOf = ({ context, event, version }: EventText): Draft => ({
  context,
  type: event.eventType,
  time: event.eventDateTime,
  version
})

/** What is sent: the members that differ. */
const correctionOf = (from: Draft, to: Draft): Correction => ({
  ...(from.context !== to.context && { event_context: to.context }),
  ...(from.type !== to.type && { event_type: to.type }),
  ...(from.time !== to.time && { event_date_time: to.time }),
  ...(from.version !== to.version && { metadata_version: to.version })
})

/** Of the members that an operator wrote by hand as JSON. */
const problemOf = ({ context, version }: Draft): string | undefined =>
  (syntaxProblem(context) === undefined ? undefined : "Not to be saved yet: the context is no JSON object.") ??
  (/^\d+$/.test(version) ? undefined : "The metadata version is a whole number.")

/** Unsaved drafts, kept while the page is open: looking at another view loses nothing. */
const drafts = new Map<string, Draft>()

/**
 * A correction as it is being written.
 *
 * @param key of what it corrects
 */
export const useDraft = (key: string, saved: EventText) => {
  const [draft, setDraft] = useState(() => drafts.get(key) ?? draftOf(saved))
  const before = draftOf(saved)
  const correction = correctionOf(before, draft)
  return {
    draft,
    correction,
    /** Undoes the correction. */
    reversal: correctionOf(draft, before),
    isChanged: Object.keys(correction).length > 0,
    problem: problemOf(draft),
    edit: (changes: Partial<Draft>) => {
      const edited = { ...(drafts.get(key) ?? draft), ...changes }
      drafts.set(key, edited)
      setDraft(edited)
    },
    reset: (to: EventText = saved) => {
      drafts.delete(key)
      setDraft(draftOf(to))
    }
  }
}
