import { useMemo } from "react"
import type { EventFilter } from "../../api/queries.ts"
import { useSearch } from "../../api/search.ts"

const time = (value: string | undefined): Date | undefined => {
  const at = new Date(value ?? "")
  return Number.isNaN(at.getTime()) ? undefined : at
}

/** How far back, in minutes, unless a time is given. The server looks back an hour. */
export const SPANS = [
  ["", "the last hour"],
  ["1440", "the last 24 hours"],
  ["10080", "the last 7 days"],
  ["43200", "the last 30 days"],
  ["time", "a time…"]
] as const

export const useFilter = () => {
  const { get, set } = useSearch()
  const type = get("type")
  const environment = get("environment")
  const span = get("span") ?? ""
  const [sinceText, untilText] = [get("since"), get("until")]
  const filter = useMemo((): EventFilter => {
    const since =
      span === "time" ? time(sinceText) : span === "" ? undefined : new Date(Date.now() - Number(span) * 60_000)
    const until = span === "time" ? time(untilText) : undefined
    return {
      ...(type !== undefined && { type }),
      ...(environment !== undefined && { environment }),
      ...(since !== undefined && !Number.isNaN(since.getTime()) && { since }),
      ...(until !== undefined && { until })
    }
  }, [type, environment, span, sinceText, untilText])
  return { filter, span, set }
}
