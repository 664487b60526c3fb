/** Bar charts as SVG: strings, so that nothing has to be installed to draw or to see them. Readable on light and dark. */

export interface Bar {
  readonly label: string
  readonly value: number
  /** What stands behind the bar. */
  readonly text: string
  /** This project's own. */
  readonly own?: boolean
}

const WIDTH = 860
const LABELS = 330
const TEXTS = 130
const ROW = 26
const HEAD = 64

const escape = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;")

/** A bar for each row, from zero, so that lengths compare as values do. */
export const bars = (title: string, subtitle: string, bars: ReadonlyArray<Bar>): string => {
  const rows = bars.filter(({ value }) => Number.isFinite(value))
  const most = Math.max(...rows.map(({ value }) => value))
  const height = HEAD + rows.length * ROW + 12
  const lines = rows.map(({ label, own, text, value }, index) => {
    const y = HEAD + index * ROW
    const length = Math.max(1, (value / most) * (WIDTH - LABELS - TEXTS)).toFixed(1)
    return `
  <text class="label" x="${LABELS - 10}" y="${y + 15}" text-anchor="end">${escape(label)}</text>
  <rect class="${own ? "own" : "other"}" x="${LABELS}" y="${y + 2}" width="${length}" height="${ROW - 8}" rx="2"/>
  <text class="value" x="${LABELS + Number(length) + 8}" y="${y + 15}">${escape(text)}</text>`
  })
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-label="${escape(title)}">
  <style>
    text { font: 13px system-ui, sans-serif; fill: #1f2328 }
    .title { font-size: 16px; font-weight: 600 }
    .value, .subtitle { fill: #59636e }
    .other { fill: #afb8c1 }
    .own { fill: #bf8700 }
    @media (prefers-color-scheme: dark) {
      text { fill: #f0f6fc }
      .value, .subtitle { fill: #9198a1 }
      .other { fill: #656c76 }
      .own { fill: #e3b341 }
    }
  </style>
  <text class="title" x="10" y="24">${escape(title)}</text>
  <text class="subtitle" x="10" y="44">${escape(subtitle)}</text>${lines.join("")}
</svg>
`
}
