/** An editor of JSON that says what is wrong with it and what was changed. */
import { defaultKeymap, history, historyKeymap } from "@codemirror/commands"
import { json } from "@codemirror/lang-json"
import { bracketMatching, indentOnInput, indentUnit } from "@codemirror/language"
import { linter, lintGutter, lintKeymap } from "@codemirror/lint"
import { unifiedMergeView } from "@codemirror/merge"
import { drawSelection, EditorView, highlightActiveLine, keymap, lineNumbers } from "@codemirror/view"
import { lintContext } from "./lint.ts"
import { theme } from "./theme.ts"

/** Something wrong, in words that need no pointer to be read. */
export interface Problem {
  readonly line: number
  readonly message: string
}

interface Options {
  readonly parent: ShadowRoot
  /** What changes are shown against. */
  readonly original: string
  readonly text: string
  readonly label: string
  readonly onChange: (text: string) => void
  readonly onProblems: (problems: ReadonlyArray<Problem>) => void
}

/**
 * A browser that replaces coloured text by what is typed writes the colour into a style attribute, which the
 * Content-Security-Policy does not let in and complains about. So it is not left to the browser.
 */
const typingOverSelection = EditorView.domEventHandlers({
  beforeinput: (event, view) => {
    const { state } = view
    if (event.isComposing || event.inputType !== "insertText" || event.data === null) return false
    if (state.selection.main.empty || state.readOnly) return false
    event.preventDefault()
    view.dispatch(state.replaceSelection(event.data), { userEvent: "input.type", scrollIntoView: true })
    return true
  }
})

/** Tab leaves the editor, as everywhere: whoever has no mouse is not caught in it. */
export const make = ({ label, onChange, onProblems, original, parent, text }: Options): EditorView =>
  new EditorView({
    parent,
    // In a shadow tree CodeMirror adopts its style sheets. Elsewhere it would write style elements, which the
    // Content-Security-Policy does not let in.
    root: parent,
    doc: text,
    extensions: [
      lineNumbers(),
      history(),
      drawSelection(),
      indentOnInput(),
      indentUnit.of("  "),
      bracketMatching(),
      json(),
      linter(
        ({ state }) => {
          const found = lintContext(state)
          onProblems(found.map(({ from, message }) => ({ line: state.doc.lineAt(from).number, message })))
          return found
        },
        { delay: 200 }
      ),
      lintGutter(),
      highlightActiveLine(),
      unifiedMergeView({ original, mergeControls: false, highlightChanges: true, gutter: true }),
      keymap.of([...defaultKeymap, ...historyKeymap, ...lintKeymap]),
      EditorView.lineWrapping,
      EditorView.contentAttributes.of({ "aria-label": label }),
      EditorView.updateListener.of((update) => {
        if (update.docChanged) onChange(update.state.doc.toString())
      }),
      typingOverSelection,
      theme
    ]
  })
