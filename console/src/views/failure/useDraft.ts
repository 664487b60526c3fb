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
  syntaxProblem(context) ?? (/^\d+$/.test(version) ? undefined : "The metadata version is a whole number.")

/** A correction as it is being written. */
export const useDraft = (saved: EventText) => {
  const [draft, setDraft] = useState(() => draftOf(saved))
  const before = draftOf(saved)
  const correction = correctionOf(before, draft)
  return {
    draft,
    correction,
    /** What takes the correction back. */
    reversal: correctionOf(draft, before),
    isChanged: Object.keys(correction).length > 0,
    problem: problemOf(draft),
    edit: (changes: Partial<Draft>) => setDraft((now) => ({ ...now, ...changes })),
    reset: (to: EventText = saved) => setDraft(draftOf(to))
  }
}
