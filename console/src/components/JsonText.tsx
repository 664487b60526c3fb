import { useMemo } from "react"
import { prettyJson } from "../../../src/Cli/prettyJson.ts"

interface Props {
  readonly label: string
  /** JSON. */
  readonly text: string
}

/** JSON to read: laid out, every digit as it is. */
export const JsonText = ({ label, text }: Props) => {
  const pretty = useMemo(() => prettyJson(text), [text])
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what is wider than the page is scrolled with the keyboard too
    <pre className="json" aria-label={label} role="region" tabIndex={0}>
      {pretty}
    </pre>
  )
}
