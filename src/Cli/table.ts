/** Rows in columns, for people. */
import * as Arr from "effect/Array"
import { cut, INDENT, indented, terminalWidth, visible, width } from "./text.ts"

const GAP = "  "

type Rows = ReadonlyArray<ReadonlyArray<string>>

/** Each row in one line, whatever its length. */
export const fields = (rows: Rows): string => align(rows).join("\n")

/** Each row in one line, cut where the terminal ends. */
export const table = (rows: Rows, columns: number = terminalWidth()): string =>
  align(rows)
    .map((line) => cut(line, columns))
    .join("\n")

export const indentedTable = (rows: Rows): string => indented(table(rows, terminalWidth() - INDENT.length))

const align = (rows: Rows): ReadonlyArray<string> => {
  const lines = rows.map(Arr.map(visible))
  const widths: Array<number> = []
  for (const cells of lines) {
    for (const [n, cell] of cells.entries()) widths[n] = Math.max(widths[n] ?? 0, width(cell))
  }
  const pad = (cell: string, n: number) => cell + " ".repeat((widths[n] ?? 0) - width(cell))
  return lines.map((cells) => cells.map(pad).join(GAP).trimEnd())
}
