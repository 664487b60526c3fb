/** What is wrong with an event's context, at the place where it is. */
import { syntaxTree } from "@codemirror/language"
import type { Diagnostic } from "@codemirror/lint"
import type { EditorState } from "@codemirror/state"
import { isBeyond64Bits } from "./numbers.ts"
import { syntaxProblem } from "./syntax.ts"

export const lintContext = (state: EditorState): ReadonlyArray<Diagnostic> => {
  const text = state.doc.toString()
  const problem = syntaxProblem(text)
  if (problem !== undefined) {
    const at = syntaxErrorAt(state)
    return [{ from: at, to: Math.min(at + 1, text.length), severity: "error", message: problem }]
  }
  return numbersBeyond64Bits(state)
}

const syntaxErrorAt = (state: EditorState): number => {
  let at = 0
  let isFound = false
  syntaxTree(state).iterate({
    enter: (node) => {
      if (isFound || !node.type.isError) return
      isFound = true
      at = node.from
    }
  })
  return at
}

const numbersBeyond64Bits = (state: EditorState): ReadonlyArray<Diagnostic> => {
  const found: Array<Diagnostic> = []
  syntaxTree(state).iterate({
    enter: ({ from, name, to }) => {
      if (name !== "Number" || !isBeyond64Bits(state.sliceDoc(from, to))) return
      found.push({
        from,
        to,
        severity: "warning",
        message:
          "ClickHouse’s JSON holds integers of 64 bits, and this is beyond them: it refuses the event. Write another number, or a string."
      })
    }
  })
  return found
}
