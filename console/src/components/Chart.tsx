import { type PointerEvent, useId, useState } from "react"
import { local, minute, zone } from "../time.ts"
import { pieces } from "./scale.ts"

interface Line {
  readonly name: string
  /** Null where there is none. */
  readonly values: ReadonlyArray<number | null>
  readonly isFilled?: boolean
}

interface Props {
  readonly title: string
  /** The newest value, shown large. */
  readonly now: string
  readonly about: string
  readonly times: ReadonlyArray<Date>
  /** The first is the more important one. */
  readonly lines: readonly [Line, ...ReadonlyArray<Line>]
  readonly format: (value: number) => string
  readonly isBad?: boolean
}

const WIDTH = 400
const HEIGHT = 96

/** Lines over time. The pointer shows values; a sentence and a table have the same for those who cannot see the lines. */
export const Chart = ({ about, format, isBad = false, lines, now, times, title }: Props) => {
  const id = useId()
  const [at, setAt] = useState<number>()
  const largest = Math.max(0, ...lines.flatMap(({ values }) => values.map((value) => value ?? 0)))
  const x = (index: number) => (times.length < 2 ? WIDTH : (index / (times.length - 1)) * WIDTH)
  const y = (value: number) => HEIGHT - (largest === 0 ? 0 : value / largest) * HEIGHT
  const path = (points: ReadonlyArray<readonly [number, number]>) =>
    points.map(([index, value], n) => `${n === 0 ? "M" : "L"}${x(index).toFixed(1)} ${y(value).toFixed(1)}`).join("")
  const area = (points: ReadonlyArray<readonly [number, number]>) =>
    `${path(points)}L${x(points.at(-1)?.[0] ?? 0).toFixed(1)} ${HEIGHT}L${x(points[0]?.[0] ?? 0).toFixed(1)} ${HEIGHT}Z`
  const point = ({ clientX, currentTarget }: PointerEvent<SVGSVGElement>) => {
    const { left, width } = currentTarget.getBoundingClientRect()
    setAt(Math.min(times.length - 1, Math.max(0, Math.round(((clientX - left) / width) * (times.length - 1)))))
  }
  const shown = at === undefined ? undefined : times[at]
  const read = (line: Line) => {
    const value = at === undefined ? undefined : line.values[at]
    return value === undefined || value === null ? "–" : format(value)
  }
  const [first, last] = [times[0], times.at(-1)]
  return (
    <figure className={isBad && largest > 0 ? "chart bad" : "chart"}>
      <figcaption>
        <span className="name" id={id}>
          {title}
        </span>
        <span className="now">{now}</span>
        <span className="about">{about}</span>
      </figcaption>
      <p className="legend">
        {shown !== undefined && <time dateTime={shown.toISOString()}>{shown.toLocaleTimeString("en-GB")} </time>}
        {(lines.length > 1 || shown !== undefined) &&
          lines.map((line, n) => (
            <span key={line.name} className={`key line${n}`}>
              {line.name} {shown !== undefined && read(line)}
            </span>
          ))}
        {shown === undefined && <span className="top">highest {format(largest)}</span>}
      </p>
      <svg
        viewBox={`0 -2 ${WIDTH} ${HEIGHT + 4}`}
        preserveAspectRatio="none"
        role="img"
        aria-labelledby={`${id} ${id}text`}
        onPointerMove={point}
        onPointerLeave={() => setAt(undefined)}
      >
        <title id={`${id}text`}>{`${about}: now ${now}, at most ${format(largest)} in the time shown`}</title>
        <path className="grid" d={`M0 0H${WIDTH}M0 ${HEIGHT / 2}H${WIDTH}M0 ${HEIGHT}H${WIDTH}`} />
        {lines.map(({ isFilled, name, values }, n) =>
          pieces(values).map((points) => (
            <g key={`${name}${points[0]?.[0]}`} className={`line${n}`}>
              {isFilled && <path className="area" d={area(points)} />}
              <path
                className="stroke"
                d={points.length === 1 ? dot(x(points[0]?.[0] ?? 0), y(points[0]?.[1] ?? 0)) : path(points)}
              />
            </g>
          ))
        )}
        {at !== undefined && <path className="cursor" d={`M${x(at)} 0V${HEIGHT}`} />}
      </svg>
      <p className="axis">
        <span>{first !== undefined && minute(first, Date.now())}</span>
        <span>{last !== undefined && `${minute(last, Date.now())} ${zone(last)}`}</span>
      </p>
      <Table title={title} times={times} lines={lines} format={format} />
    </figure>
  )
}

/** A line of no length, which round caps make visible. */
const dot = (x: number, y: number) => `M${x.toFixed(1)} ${y.toFixed(1)}h0.01`

interface TableProps {
  readonly title: string
  readonly times: ReadonlyArray<Date>
  readonly lines: ReadonlyArray<Line>
  readonly format: (value: number) => string
}

/** A chart's values, newest first, to read or to hear. */
const Table = ({ format, lines, times, title }: TableProps) => {
  const [isOpen, setIsOpen] = useState(false)
  return (
    <details onToggle={({ currentTarget }) => setIsOpen(currentTarget.open)}>
      <summary>
        <span className="hidden">{title} </span>as a table
      </summary>
      {isOpen && (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: a long table is scrolled with the keyboard too
        <section className="scroll" tabIndex={0} aria-label={`${title} as a table`}>
          <table>
            <thead>
              <tr>
                <th scope="col">From</th>
                {lines.map(({ name }) => (
                  <th scope="col" key={name} className="number">
                    {name}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {times
                .map((time, n) => (
                  <tr key={time.getTime()}>
                    <th scope="row">{local(time, Date.now())}</th>
                    {lines.map(({ name, values }) => {
                      const value = values[n]
                      return (
                        <td key={name} className="number">
                          {value === undefined || value === null ? "–" : format(value)}
                        </td>
                      )
                    })}
                  </tr>
                ))
                .reverse()}
            </tbody>
          </table>
        </section>
      )}
    </details>
  )
}
