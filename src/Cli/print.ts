/** How commands print. What events and errors say was written by anybody, and goes to a terminal. */
import { stripVTControlCharacters } from "node:util"
import * as Arr from "effect/Array"
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { visible, visibleLines } from "../internal/text.ts"
import type { ErrorClass } from "../SinkError.ts"

export { visible, visibleLines }

const INDENT = "  "

export const indented = (text: string): string => text.replaceAll(/^(?=.)/gm, INDENT)

/** In one line, however many it has. */
export const oneLine = (text: string): string => visible(text.trim().replaceAll(/\s+/g, " "))

/** JSON in one line, of which a terminal prints every character. */
export const jsonLine = (value: unknown): string => visible(JSON.stringify(value))

const WIDE = /[\p{Script=Han}\p{Script=Hangul}\p{Script=Hiragana}\p{Script=Katakana}\p{Emoji_Presentation}！-｠]/u
const NO_WIDTH = /[\p{M}\p{Cf}]/u

/** The columns that a character takes on a terminal. */
const columnsOf = (character: string): number => (NO_WIDTH.test(character) ? 0 : WIDE.test(character) ? 2 : 1)

/** The columns that a line takes. */
const width = (line: string): number => Array.from(line).reduce((sum, character) => sum + columnsOf(character), 0)

/** A line of no more than so many columns. */
export const trim = (line: string, columns: number): string => {
  if (width(line) <= columns) return line
  let left = columns - 1
  let end = 0
  for (const character of line) {
    left -= columnsOf(character)
    if (left < 0) break
    end += character.length
  }
  return `${line.slice(0, end)}…`
}

/** What fits beside each other where this is printed: everything, if that is no terminal. */
const terminalWidth = (): number => (process.stdout.isTTY && process.stdout.columns) || Number.POSITIVE_INFINITY

export const count = (number: number, noun: string): string => `${number} ${noun}${number === 1 ? "" : "s"}`

/** Shows times as they are in UTC and as they are from now: `2026-11-20 21:23:51Z, 3m ago`. */
export const times: Effect.Effect<(time: Date) => string> = Effect.map(
  Clock.currentTimeMillis,
  (now) => (time) => `${time.toISOString().slice(0, 19).replace("T", " ")}Z, ${age(now - time.getTime())}`
)

const UNITS = [
  ["d", 86_400, 2],
  ["h", 3_600, 2],
  ["m", 60, 1]
] as const

const age = (millis: number): string => {
  const seconds = Math.round(millis / 1_000)
  for (const [unit, size, atLeast] of UNITS) {
    if (Math.abs(seconds) >= size * atLeast) return `${inOrAgo(Math.round(seconds / size), unit)}`
  }
  return inOrAgo(seconds, "s")
}

const inOrAgo = (number: number, unit: string): string => (number < 0 ? `in ${-number}${unit}` : `${number}${unit} ago`)

/** Between two columns. */
const GAP = "  "

type Rows = ReadonlyArray<ReadonlyArray<string>>

/** Each row in one line, whatever its length. */
export const fields = (rows: Rows): string => align(rows).join("\n")

/** Each row in one line, trimmed where the terminal ends. */
export const table = (rows: Rows, columns: number = terminalWidth()): string =>
  align(rows)
    .map((line) => trim(line, columns))
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

/** The class of an error, with ClickHouse's code where there is one. */
export const errorName = (errorClass: ErrorClass | null, code: number | null): string =>
  [errorClass ?? "", code ?? ""].join(" ").trim()

/** What an error says, in one line and without the code, which {@link errorName} has. */
export const summary = (message: string | null): string =>
  oneLine((message ?? "").replace(/^Code: \d+\. (?:DB::Exception: )?/, ""))

/** A line that says how to go on, if a list was as long as it may be. */
export const more = (rows: ReadonlyArray<{ readonly id: number }>, limit: number): ReadonlyArray<string> => {
  const last = rows.at(-1)
  return last === undefined || rows.length < limit ? [] : [`There may be more: add --after ${last.id}`]
}

/** Help comes with the colours of a terminal. Whatever else it is written to gets it without. */
type Print = Console.Console["log"]

const stripped =
  (print: Print): Print =>
  (...parts) =>
    print(...parts.map((part) => (typeof part === "string" ? stripVTControlCharacters(part) : part)))

export const withPlainText = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Console.consoleWith((console) =>
    Effect.withConsole(effect, {
      ...console,
      ...(!process.stdout.isTTY && { log: stripped(console.log) }),
      ...(!process.stderr.isTTY && { error: stripped(console.error) })
    })
  )

/** Back to the start of the line, and erase it. */
const CLEAR_LINE = "\r\x1b[K"

const write = (text: string) => Effect.sync(() => process.stderr.write(text))

export const withProgress =
  (text: Effect.Effect<string>) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> => {
    if (!process.stderr.isTTY) return effect
    const show = Effect.flatMap(text, (text) => write(`${CLEAR_LINE}${text}`))
    return effect.pipe(
      Effect.raceFirst(Effect.zipRight(Effect.repeat(show, Schedule.spaced("100 millis")), Effect.never)),
      Effect.ensuring(write(CLEAR_LINE))
    )
  }
