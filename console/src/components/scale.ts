/** A round number at or above the largest value, for the top of a chart. */
export const niceTop = (largest: number): number => {
  if (largest <= 0) return 1
  const power = 10 ** Math.floor(Math.log10(largest))
  const step = [1, 2, 2.5, 5, 10].find((step) => step * power >= largest) ?? 10
  return step * power
}

/** Where a chart's gaps are, nothing is drawn: pieces of neighbours that have a value. */
export const pieces = (
  values: ReadonlyArray<number | null>
): ReadonlyArray<ReadonlyArray<readonly [index: number, value: number]>> => {
  const all: Array<Array<readonly [number, number]>> = []
  let isGap = true
  for (const [index, value] of values.entries()) {
    if (value === null) {
      isGap = true
      continue
    }
    if (isGap) all.push([])
    all.at(-1)?.push([index, value])
    isGap = false
  }
  return all
}
