/** Times as people and programs write them: https://www.rfc-editor.org/rfc/rfc3339#section-5.6 */

/** Its note allows a space for the T. */
const TIME = /^(\d{4}-\d{2}-\d{2})[Tt ]\d{2}:\d{2}:\d{2}(?:\.(\d+))?(?:[Zz]|[+-]\d{2}:\d{2})$/

/** Whether there is such a day: JavaScript takes February 30 for March 2. */
export const isDay = (day: string): boolean => {
  const midnight = Date.parse(day)
  return !Number.isNaN(midnight) && new Date(midnight).toISOString().startsWith(day)
}

/** As ISO 8601 has it, which JavaScript and Postgres read. */
export const toIso = (time: string): string => time.toUpperCase().replace(" ", "T")

/** Whether the text is a time, with so many digits of a second at most. */
export const isTime = (text: string, digits = Number.POSITIVE_INFINITY): boolean => {
  const [, day = "", fraction = ""] = TIME.exec(text) ?? []
  return isDay(day) && fraction.length <= digits && !Number.isNaN(Date.parse(toIso(text)))
}
