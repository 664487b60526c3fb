/** What ClickHouse's JSON type does not hold, found before it is sent. */

const NUMBER = /^-?(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/

const LOWEST = -(2n ** 63n)
const HIGHEST = 2n ** 64n - 1n

/** More digits than any number of 64 bits has. */
const MANY_DIGITS = 21

/**
 * Whether a number is an integer beyond 64 bits. Postgres keeps 1e30 as an integer of 31 digits; what has digits behind
 * the point stays a decimal, which ClickHouse takes.
 *
 * @param text a number as JSON has it
 */
export const isBeyond64Bits = (text: string): boolean => {
  const [, digits = "", fraction = "", exponent = "0"] = NUMBER.exec(text) ?? []
  const zeros = Number(exponent) - fraction.length
  if (digits === "" || zeros < 0) return false
  const significant = (digits + fraction).replace(/^0+/, "")
  if (significant === "") return false
  if (significant.length + zeros > MANY_DIGITS) return true
  const value = BigInt(significant + "0".repeat(zeros))
  return text.startsWith("-") ? -value < LOWEST : value > HIGHEST
}
