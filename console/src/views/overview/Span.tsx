// Steps are short enough to show an outage of a minute in a whole day.
const SPANS = [
  { name: "", minutes: 15, step: 10, text: "15 min" },
  { name: "1h", minutes: 60, step: 10, text: "1 h" },
  { name: "6h", minutes: 360, step: 30, text: "6 h" },
  { name: "24h", minutes: 1440, step: 120, text: "24 h" }
] as const

type OneSpan = (typeof SPANS)[number]

export const spanOf = (name: string | undefined): OneSpan => SPANS.find((span) => span.name === name) ?? SPANS[0]

interface Props {
  readonly span: OneSpan
  readonly onChange: (name: string) => void
}

/** How far back the charts reach. */
export const Span = ({ onChange, span }: Props) => (
  <fieldset className="spans">
    <legend>The last</legend>
    {SPANS.map(({ name, text }) => (
      <label key={name}>
        <input type="radio" name="span" value={name} checked={span.name === name} onChange={() => onChange(name)} />
        {text}
      </label>
    ))}
  </fieldset>
)
