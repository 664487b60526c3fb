/** How times and durations are shown: the viewer's own zone, always named, and the age beside it. */

const UNITS = [
  [86_400_000, "d"],
  [3_600_000, "h"],
  [60_000, "min"],
  [1_000, "s"]
] as const

/** `0.3 s`, `12 s`, `4 min`, `3 h 20 min`, `2 d 4 h`. */
export const duration = (millis: number): string => {
  const positive = Math.max(0, millis)
  if (positive < 9_950) return `${(positive / 1000).toFixed(1)} s`
  const at = UNITS.findIndex(([unit]) => positive >= unit)
  const [unit, name] = UNITS[at] ?? [1_000, "s"]
  const whole = Math.floor(positive / unit)
  const [smaller, smallerName] = UNITS[at + 1] ?? [0, ""]
  const rest = smaller === 0 || whole >= 10 ? 0 : Math.floor((positive % unit) / smaller)
  return rest === 0 ? `${whole} ${name}` : `${whole} ${name} ${rest} ${smallerName}`
}

const MINUTE_MILLIS = 60_000

/** `12 s ago`; of a time to come, `in 12 s`. */
export const age = (at: Date, now: number): string => {
  const millis = now - at.getTime()
  if (millis < -1_000) return `in ${duration(-millis)}`
  if (millis < 1_000) return "just now"
  // In minutes, seconds are noise.
  const unit = millis < MINUTE_MILLIS || millis >= 60 * MINUTE_MILLIS ? 1_000 : MINUTE_MILLIS
  return `${duration(Math.floor(millis / unit) * unit).replace(".0 ", " ")} ago`
}

const clock = new Intl.DateTimeFormat("en-GB", {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  timeZoneName: "short"
})

const clockOfDay = new Intl.DateTimeFormat("en-GB", {
  day: "numeric",
  month: "short",
  year: "numeric",
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  timeZoneName: "short"
})

/** `14:03:22 CET` of today, `20 Nov 2026, 14:03:22 CET` of another day. */
export const local = (at: Date, now: number): string =>
  new Date(now).toDateString() === at.toDateString() ? clock.format(at) : clockOfDay.format(at)

const axis = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" })

const axisOfDay = new Intl.DateTimeFormat("en-GB", {
  day: "numeric",
  month: "short",
  hour: "2-digit",
  minute: "2-digit"
})

/** `14:03` of today, `20 Nov, 14:03` of another day, below a chart. */
export const minute = (at: Date, now: number): string =>
  (new Date(now).toDateString() === at.toDateString() ? axis : axisOfDay).format(at)

/** `CET`. */
export const zone = (at: Date): string =>
  clock.formatToParts(at).find(({ type }) => type === "timeZoneName")?.value ?? "UTC"

/** What `<input type="datetime-local">` holds, in the viewer's zone. */
export const toInput = (at: Date): string => {
  const shifted = new Date(at.getTime() - at.getTimezoneOffset() * 60_000)
  return shifted.toISOString().slice(0, 19)
}

export const fromInput = (text: string): Date | undefined => {
  const at = new Date(text)
  return text === "" || Number.isNaN(at.getTime()) ? undefined : at
}
