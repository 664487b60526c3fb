import { useMemo } from "react"
import { useSearch } from "./search.ts"

/** Between two times that are given. */
export const GIVEN = "time"

const time = (value: string | undefined): Date | undefined => {
  const at = new Date(value ?? "")
  return Number.isNaN(at.getTime()) ? undefined : at
}

/** The period of a list, from the address: the last so many minutes, between two times, or any time. */
export const usePeriod = () => {
  const { get, set } = useSearch()
  const [sinceText, untilText] = [get("since"), get("until")]
  const span = get("span") ?? (sinceText === undefined && untilText === undefined ? "" : GIVEN)
  const between = useMemo((): { readonly since?: Date; readonly until?: Date } => {
    // Counted back from the minute in which the list was opened. A period that moved on could not be read page by page,
    // and going back to the list would show another one.
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
