/** What many runs come to. */

/** So much of the values is at most this: 0.5 of them for the median. Between two neighbours it is in between. */
export const quantile = (values: ReadonlyArray<number>, share: number): number => {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (index: number) => sorted[index] ?? Number.NaN
  const place = (sorted.length - 1) * share
  const below = Math.floor(place)
  return at(below) + (at(Math.ceil(place)) - at(below)) * (place - below)
}

export const median = (values: ReadonlyArray<number>): number => quantile(values, 0.5)
