import { useMemo } from "react"
import { useSearch } from "./search.ts"

/** Between two times that are given. */
export const GIVEN = "time"

const time = (value: string | undefined): Date | undefined => {
  const at = new Date(value ?? "")
  return Number.isNaN(at.getTime()) ? undefined : at
}

/** When what is listed happened, as the address has it: so many minutes back from now, between two times, or neither. */
export const usePeriod = () => {
  const { get, set } = useSearch()
  const [sinceText, untilText] = [get("since"), get("until")]
  const span = get("span") ?? (sinceText === undefined && untilText === undefined ? "" : GIVEN)
  const between = useMemo((): { readonly since?: Date; readonly until?: Date } => {
    // Back from the minute in which the list was opened: one that moved on could not be read page by page, and whoever
    // comes back to it from one of its failures finds it as it was.
    if (span !== GIVEN) {
      return /^\d{1,6}$/.test(span)
        ? { since: new Date((Math.floor(Date.now() / 60_000) - Number(span)) * 60_000) }
        : {}
    }
    const [since, until] = [time(sinceText), time(untilText)]
    return { ...(since !== undefined && { since }), ...(until !== undefined && { until }) }
  }, [span, sinceText, untilText])
  return { span, between, set }
}
