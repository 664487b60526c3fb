/** How a batch that ClickHouse refuses is cut into smaller ones. */
import * as Arr from "effect/Array"
import * as Option from "effect/Option"

export interface Part {
  /** Positions of its first and last event in the batch, from 1. */
  readonly first: number
  readonly last: number
  readonly suspect: boolean
}

/**
 * Parts that hold each event once, in order. Each is smaller than the whole, so that cutting comes to an end.
 *
 * What lies behind the suspect is cut into pieces about as long as the good stretch before it, as further bad events are
 * likely to lie that far apart: what is refused is uploaded to its end all the same, and pieces are sent by several
 * workers at once. 50,000 events with 10 bad ones are sent 3 times over, with one piece behind each it would be 7; with
 * 100 bad ones 5 times, not 52. Where they lie close together the next thousand are a piece: many are found there at little cost, and if all
 * the others are bad too the limit is reached before these were uploaded often.
 */
export const cut = (eventCount: number, suspect: Option.Option<number>): ReadonlyArray<Part> =>
  Option.match(
    Option.filter(suspect, (position) => position >= 1 && position <= eventCount),
    {
      onNone: () => pieces(1, eventCount, 2),
      onSome: (position) => [
        ...pieces(1, position - 1, 1),
        { first: position, last: position, suspect: true },
        ...(position < CLOSE
          ? [
              ...pieces(position + 1, Math.min(position + NEXT, eventCount), 1),
              ...pieces(position + NEXT + 1, eventCount, 1)
            ]
          : pieces(position + 1, eventCount, Math.floor((eventCount - position) / position)))
      ]
    }
  )

const CLOSE = 250
const NEXT = 1_000
const MOST_PIECES = 8

/** About so many ranges from `first` to `last`, as long as each other, give or take one. None where nothing is. */
const pieces = (first: number, last: number, wanted: number): ReadonlyArray<Part> => {
  const events = last - first + 1
  const count = Math.min(Math.max(wanted, 1), MOST_PIECES)
  const start = (n: number) => first + Math.floor((n * events) / count)
  return Arr.makeBy(count, (n) => ({ first: start(n), last: start(n + 1) - 1, suspect: false })).filter(
    (piece) => piece.first <= piece.last
  )
}
