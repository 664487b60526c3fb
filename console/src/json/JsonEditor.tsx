import type { EditorView } from "@codemirror/view"
import { useEffect, useRef, useState } from "react"
import { make, type Problem } from "./editor.ts"

interface Props {
  readonly label: string
  /** What changes are shown against. Another one makes another editor. */
  readonly original: string
  readonly text: string
  readonly onChange: (text: string) => void
}

const JsonEditor = ({ label, onChange, original, text }: Props) => {
  const host = useRef<HTMLDivElement>(null)
  const view = useRef<EditorView>(null)
  const latest = useRef({ onChange, text })
  const [problems, setProblems] = useState<ReadonlyArray<Problem>>([])
  useEffect(() => {
    latest.current = { onChange, text }
    const shown = view.current
    // Somebody else than the editor's user changed it, such as a button that takes changes back.
    if (shown !== null && shown.state.doc.toString() !== text) {
      shown.dispatch({ changes: { from: 0, to: shown.state.doc.length, insert: text } })
    }
  }, [onChange, text])
  useEffect(() => {
    const element = host.current
    if (element === null) return
    const parent = element.shadowRoot ?? element.attachShadow({ mode: "open" })
    const made = make({
      parent,
      original,
      text: latest.current.text,
      label,
      onChange: (changed) => latest.current.onChange(changed),
      onProblems: setProblems
    })
    view.current = made
    return () => {
      view.current = null
      made.destroy()
    }
  }, [original, label])
  return (
    <>
      <div className="editor" ref={host} />
      <div className="problems" role="status">
        {problems.map(({ line, message }) => (
          <p key={`${line} ${message}`} className="warning">
            Line {line}: {message}
          </p>
        ))}
      </div>
    </>
  )
}

/** As `lazy` wants it: the editor is most of the console's weight, and most views have none. */
export default JsonEditor
