import type { EventFilter } from "../../api/queries.ts"
import { useSearch } from "../../api/search.ts"
import { usePeriod } from "../../api/usePeriod.ts"

/** The list's filter, from the address. Without a period the server looks back an hour. */
export const useFilter = () => {
  const { get, set } = useSearch()
  const period = usePeriod()
  const type = get("type")
  const environment = get("environment")
  const filter: EventFilter = {
    ...(type !== undefined && { type }),
    ...(environment !== undefined && { environment }),
    ...period.between
  }
  return { filter, period, set }
}
