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
  const span = get("span") ?? ""
  const [sinceText, untilText] = [get("since"), get("until")]
  const between = useMemo((): { readonly since?: Date; readonly until?: Date } => {
    // Now is when it was chosen: a list that moved on with every look could not be read page by page.
    if (span !== GIVEN) return /^\d{1,6}$/.test(span) ? { since: new Date(Date.now() - Number(span) * 60_000) } : {}
    const [since, until] = [time(sinceText), time(untilText)]
    return { ...(since !== undefined && { since }), ...(until !== undefined && { until }) }
  }, [span, sinceText, untilText])
  return { span, between, set }
}
