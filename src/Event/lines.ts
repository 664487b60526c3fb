/** Cuts bytes into lines. Holds one line at a time, and not even that beyond {@link MAX_LINE_BYTES}. */
import * as Option from "effect/Option"
import { MAX_CONTEXT_BYTES } from "../Event.ts"

/** Room for the largest context with each of its characters written as `\u0000`, and the other fields. */
export const MAX_LINE_BYTES = 8 * MAX_CONTEXT_BYTES

export interface Line {
  /** From 1. */
  readonly number: number
  /** None if there were too many. */
  readonly bytes: Option.Option<Uint8Array>
}

/** A line whose end has not been seen. */
export interface Begun {
  readonly number: number
  readonly parts: ReadonlyArray<Uint8Array>
  readonly size: number
}

export const start: Begun = { number: 1, parts: [], size: 0 }

const NEWLINE = 10

/** The lines that end in `chunk`, and the one that goes on behind it. */
export const cut = (begun: Begun, chunk: Uint8Array): readonly [Begun, ReadonlyArray<Line>] => {
  const lines: Array<Line> = []
  let from = 0
  for (let at = chunk.indexOf(NEWLINE); at !== -1; at = chunk.indexOf(NEWLINE, from)) {
    const line = append(begun, chunk.subarray(from, at))
    lines.push(toLine(line))
    begun = { ...start, number: line.number + 1 }
    from = at + 1
  }
  return [append(begun, chunk.subarray(from)), lines]
}

/** The last line, unless the input ended with a newline. */
export const end = (begun: Begun): ReadonlyArray<Line> => (begun.size === 0 ? [] : [toLine(begun)])

const append = ({ number, parts, size }: Begun, bytes: Uint8Array): Begun => {
  const grown = size + bytes.length
  return { number, size: grown, parts: grown > MAX_LINE_BYTES ? [] : [...parts, bytes] }
}

const toLine = ({ number, parts, size }: Begun): Line => ({
  number,
  bytes: size > MAX_LINE_BYTES ? Option.none() : Option.some(Buffer.concat(parts))
})
