/** Statistics over many runs. */

/** The quantile: 0.5 is the median. Interpolated between two neighbours. */
export const quantile = (values: ReadonlyArray<number>, share: number): number => {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (index: number) => sorted[index] ?? Number.NaN
  const place = (sorted.length - 1) * share
  const below = Math.floor(place)
  return at(below) + (at(Math.ceil(place)) - at(below)) * (place - below)
}

export const median = (values: ReadonlyArray<number>): number => quantile(values, 0.5)
