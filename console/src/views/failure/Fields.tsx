import { useId } from "react"
import type { Draft } from "./useDraft.ts"

interface Props {
  readonly draft: Draft
  readonly onEdit: (changes: Partial<Draft>) => void
}

/** The other fields that can be corrected. */
export const Fields = ({ draft, onEdit }: Props) => {
  const id = useId()
  return (
    <details className="fields">
      <summary>Type, time and version</summary>
      <div className="field">
        <label htmlFor={`${id}type`}>event_type</label>
        <input id={`${id}type`} value={draft.type} onChange={({ target }) => onEdit({ type: target.value })} />
      </div>
      <div className="field">
        <label htmlFor={`${id}time`}>event_date_time</label>
        <input id={`${id}time`} value={draft.time} onChange={({ target }) => onEdit({ time: target.value })} />
        <p className="hint">RFC 3339, to the microsecond at most, such as 2026-01-31T12:00:00Z.</p>
      </div>
      <div className="field">
        <label htmlFor={`${id}version`}>metadata_version</label>
        <input
          id={`${id}version`}
          inputMode="numeric"
          value={draft.version}
          onChange={({ target }) => onEdit({ version: target.value })}
        />
      </div>
    </details>
  )
}
