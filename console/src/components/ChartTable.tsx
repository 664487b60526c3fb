import { useState } from "react"
import { local } from "../time.ts"
import type { Line } from "./Chart.tsx"

interface Props {
  readonly title: string
  readonly times: ReadonlyArray<Date>
  readonly lines: ReadonlyArray<Line>
  readonly format: (value: number) => string
}

/** A chart's values, newest first, for whoever wants to read them or hear them. */
export const ChartTable = ({ format, lines, times, title }: Props) => {
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
