import type { EventFilter } from "../../api/queries.ts"
import { useSearch } from "../../api/search.ts"
import { usePeriod } from "../../api/usePeriod.ts"

/** What is asked for, as the address has it. The server looks back an hour unless it says otherwise. */
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
