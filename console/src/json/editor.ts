/** An editor of JSON that says what is wrong with it and what was changed. */
import { defaultKeymap, history, historyKeymap } from "@codemirror/commands"
import { json } from "@codemirror/lang-json"
import { bracketMatching, indentOnInput, indentUnit } from "@codemirror/language"
import { linter, lintGutter, lintKeymap } from "@codemirror/lint"
import { unifiedMergeView } from "@codemirror/merge"
import { drawSelection, EditorView, highlightActiveLine, keymap, lineNumbers } from "@codemirror/view"
import { lintContext } from "./lint.ts"
import { theme } from "./theme.ts"

interface Options {
  readonly parent: ShadowRoot
  /** What changes are shown against. */
  readonly original: string
  readonly text: string
  readonly label: string
  readonly onChange: (text: string) => void
}

/** Tab leaves the editor, as everywhere: whoever has no mouse is not caught in it. */
export const make = ({ label, onChange, original, parent, text }: Options): EditorView =>
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
      linter((view) => lintContext(view.state), { delay: 200 }),
      lintGutter(),
      highlightActiveLine(),
      unifiedMergeView({ original, mergeControls: false, highlightChanges: true, gutter: true }),
      keymap.of([...defaultKeymap, ...historyKeymap, ...lintKeymap]),
      EditorView.lineWrapping,
      EditorView.contentAttributes.of({ "aria-label": label }),
      EditorView.updateListener.of((update) => {
        if (update.docChanged) onChange(update.state.doc.toString())
      }),
      theme
    ]
  })
