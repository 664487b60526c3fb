/** How numbers are shown. */

const whole = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 })
const compact = new Intl.NumberFormat("en-GB", { maximumSignificantDigits: 3, notation: "compact" })
const small = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 1 })

/** `12,345`. */
export const integer = (value: number): string => whole.format(value)

/** `12.3K`; below ten with one digit behind the point. */
export const short = (value: number): string => (Math.abs(value) < 10 ? small : compact).format(value)

/** `1 event`, `12,345 events`. */
export const count = (value: number, noun: string): string =>
  `${integer(value)} ${value === 1 ? noun : noun.endsWith("ch") ? `${noun}es` : `${noun}s`}`

const KIBI = 1024

/** `812 B`, `12 KiB`. */
export const bytes = (value: number): string => {
  if (value < KIBI) return `${value} B`
  return value < KIBI * KIBI ? `${short(value / KIBI)} KiB` : `${short(value / KIBI / KIBI)} MiB`
}
