/** Markdown tables, padded so that they read well on a terminal too. */

export type Cell = string | number

export const table = (columns: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<Cell>>): string => {
  const cells = [columns, ...rows].map((row) => row.map(String))
  const widths = columns.map((_, index) => Math.max(3, ...cells.map((row) => row[index]?.length ?? 0)))
  const line = (row: ReadonlyArray<string>) =>
    `| ${row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join(" | ")} |`
  const rule = widths.map((width, i) => (i === 0 ? "-".repeat(width) : `${"-".repeat(width - 1)}:`))
  const [head = [], ...body] = cells
  return [line(head), line(rule), ...body.map(line)].join("\n")
}

/** With separators of thousands; `n/a` where nothing could be measured. */
export const whole = (value: number): string =>
  Number.isFinite(value) ? Math.round(value).toLocaleString("en") : "n/a"

export const fixed = (value: number, digits: number): string => (Number.isFinite(value) ? value.toFixed(digits) : "n/a")
