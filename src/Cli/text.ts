/** How text and times are shown. What events and errors say was written by anybody, and goes to a terminal. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { visible, visibleLines } from "../internal/text.ts"

export { visible, visibleLines }

export const INDENT = "  "

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
export const width = (line: string): number =>
  Array.from(line).reduce((sum, character) => sum + columnsOf(character), 0)

/** A line of no more than so many columns. */
export const cut = (line: string, columns: number): string => {
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
export const terminalWidth = (): number => (process.stdout.isTTY && process.stdout.columns) || Number.POSITIVE_INFINITY

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
