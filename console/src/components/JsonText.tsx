import { useMemo } from "react"
import { prettyJson } from "../../../src/internal/jsonText.ts"

interface Props {
  readonly label: string
  /** JSON. */
  readonly text: string
}

/** JSON for reading: indented, with every digit as it is. */
export const JsonText = ({ label, text }: Props) => {
  const pretty = useMemo(() => prettyJson(text), [text])
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what is longer than its box is scrolled with the keyboard too
    <section className="json" aria-label={label} tabIndex={0}>
      <pre>{pretty}</pre>
    </section>
  )
}
