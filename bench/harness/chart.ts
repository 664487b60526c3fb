/** Charts as SVG: strings, so that nothing has to be installed to draw or to see them. Readable on light and dark. */

export interface Bar {
  readonly label: string
  readonly value: number
  /** The text after the bar. */
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
  return picture(title, subtitle, height, lines.join(""))
}

const picture = (title: string, subtitle: string, height: number, content: string): string =>
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-label="${escape(title)}">
  <style>
    text { font: 13px system-ui, sans-serif; fill: #1f2328 }
    .title { font-size: 16px; font-weight: 600 }
    .value, .subtitle { fill: #59636e }
    .other { fill: #afb8c1 }
    .own { fill: #bf8700 }
    .line { stroke: #afb8c1; stroke-width: 1 }
    .mark { stroke: #1f2328; stroke-width: 2 }
    .span { fill: #afb8c1; opacity: 0.3 }
    @media (prefers-color-scheme: dark) {
      text { fill: #f0f6fc }
      .value, .subtitle { fill: #9198a1 }
      .other { fill: #656c76 }
      .own { fill: #e3b341 }
      .line { stroke: #656c76 }
      .mark { stroke: #f0f6fc }
      .span { fill: #656c76 }
    }
  </style>
  <text class="title" x="10" y="24">${escape(title)}</text>
  <text class="subtitle" x="10" y="44">${escape(subtitle)}</text>${content}
</svg>
`

export interface Course {
  readonly points: ReadonlyArray<{ readonly x: number; readonly y: number }>
  /** Labels along the axis. */
  readonly marks: ReadonlyArray<number>
  /** Shaded spans, with their labels above. */
  readonly spans: ReadonlyArray<{ readonly from: number; readonly to: number; readonly label: string }>
  readonly unit: { readonly x: string; readonly y: string }
}

const AREA = { left: 70, right: 20, top: 88, height: 240, axis: 46 }

/** A round number at or above it, and how many even steps lead there. */
const scale = (most: number): { readonly most: number; readonly steps: number } => {
  const power = 10 ** Math.floor(Math.log10(Math.max(most, 1e-9)))
  const step = ([0.2, 0.5, 1, 2].find((each) => most / (each * power) <= 6) ?? 2) * power
  const steps = Math.ceil(most / step)
  return { most: steps * step, steps }
}

/** A value over time, from zero. */
export const area = (title: string, subtitle: string, { marks, points, spans, unit }: Course): string => {
  const { axis, height, left, right, top } = AREA
  const first = Math.min(0, ...points.map(({ x }) => x))
  const last = Math.max(...points.map(({ x }) => x))
  const end = scale(last)
  const high = scale(Math.max(...points.map(({ y }) => y)))
  const bottom = top + height
  const x = (value: number) => (left + ((value - first) / (last - first)) * (WIDTH - left - right)).toFixed(1)
  const y = (value: number) => (bottom - (value / high.most) * height).toFixed(1)
  const ticks = ({ most, steps }: ReturnType<typeof scale>) =>
    Array.from({ length: steps + 1 }, (_, step) => Number(((most / steps) * step).toPrecision(3)))
  const path = points.map((point) => `L${x(point.x)} ${y(point.y)}`).join("")
  const parts = [
    ...spans.map(
      ({ from, label, to }) => `
  <rect class="span" x="${x(from)}" y="${top}" width="${(Number(x(to)) - Number(x(from))).toFixed(1)}" height="${height}"/>
  <text class="subtitle" x="${x(from)}" y="${top - 8}">${escape(label)}</text>`
    ),
    ...ticks(high).map(
      (value) => `
  <line class="line" x1="${left}" y1="${y(value)}" x2="${WIDTH - right}" y2="${y(value)}"/>
  <text class="value" x="${left - 8}" y="${Number(y(value)) + 4}" text-anchor="end">${value} ${escape(unit.y)}</text>`
    ),
    `
  <path class="own" d="M${x(points[0]?.x ?? 0)} ${bottom}${path}L${x(points.at(-1)?.x ?? 0)} ${bottom}Z"/>`,
    ...marks.map(
      (value) => `
  <line class="mark" x1="${x(value)}" y1="${bottom}" x2="${x(value)}" y2="${bottom + 10}"/>`
    ),
    ...ticks(end)
      .filter((value) => value <= last)
      .map(
        (value) => `
  <text class="value" x="${x(value)}" y="${bottom + 28}" text-anchor="middle">${value} ${escape(unit.x)}</text>`
      )
  ]
  return picture(title, subtitle, bottom + axis, parts.join(""))
}
