/** Splits a line at its gaps, into runs of neighbours that have a value. */
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
