import { type FormEvent, type ReactNode, useId, useState } from "react"
import type { ApiError } from "../api/ApiError.ts"
import * as Session from "../api/session.ts"
import { useCaller } from "../api/useCaller.ts"
import { Dialog } from "./Dialog.tsx"
import { Failed } from "./Failed.tsx"

interface Props {
  readonly title: string
  readonly children?: ReactNode
  /** What the button says, and does. */
  readonly action: string
  readonly isDanger?: boolean
  /** Asks for a text, such as a reason, under this label. */
  readonly note?: string
  readonly isPending: boolean
  readonly error: ApiError | null
  readonly onConfirm: (note: string) => void
  readonly onClose: () => void
}

/** Asks before something is changed. The first time it also asks for the operator's name, if the server has none. */
export const Confirm = ({ action, children, error, isDanger, isPending, note, onClose, onConfirm, title }: Props) => {
  const [text, setText] = useState("")
  const [name, setName] = useState(Session.operator.get() ?? "")
  const caller = useCaller()
  const [asksForName] = useState(name === "" && (caller?.name ?? null) === null)
  const id = useId()
  const submit = (event: FormEvent) => {
    event.preventDefault()
    const given = text.trim()
    setText(given)
    if (note !== undefined && given === "") return
    if (name.trim() !== "") Session.operator.set(name.trim())
    onConfirm(given)
  }
  return (
    <Dialog title={title} isWorking={isPending} onClose={onClose}>
      <form onSubmit={submit}>
        {children}
        {note !== undefined && (
          <div className="field">
            <label htmlFor={`${id}note`}>{note}</label>
            <textarea
              id={`${id}note`}
              required
              maxLength={1000}
              rows={3}
              value={text}
              onChange={(event) => setText(event.target.value)}
              onKeyDown={({ currentTarget, ctrlKey, key, metaKey }) => {
                if (key === "Enter" && (ctrlKey || metaKey)) currentTarget.form?.requestSubmit()
              }}
            />
          </div>
        )}
        {asksForName && (
          <div className="field">
            <label htmlFor={`${id}name`}>Your name, for the audit trail</label>
            <input
              id={`${id}name`}
              required
              pattern={Session.OPERATOR_PATTERN}
              title="Letters without accents, digits and punctuation"
              autoComplete="username"
              value={name}
              onChange={(event) => setName(event.target.value)}
            />
            <p className="hint">Asked once. The browser keeps it.</p>
          </div>
        )}
        {error !== null && <Failed error={error} />}
        <div className="actions">
          <button type="submit" className={isDanger ? "danger" : "primary"} disabled={isPending}>
            {isPending ? "Working…" : action}
          </button>
          <button type="button" onClick={onClose}>
            Cancel
          </button>
        </div>
      </form>
    </Dialog>
  )
}
