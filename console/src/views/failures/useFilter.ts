import type { FailureFilter } from "../../api/queries.ts"
import { useSearch } from "../../api/search.ts"
import { usePeriod } from "../../api/usePeriod.ts"

export const STATES = ["open", "replayed", "resolved", "discarded"] as const
export const CLASSES = ["data", "transient", "in-doubt", "configuration", "unknown"] as const

const oneOf = <A extends string>(all: ReadonlyArray<A>, value: string | undefined): A | undefined =>
  all.find((one) => one === value)

const whole = (value: string | undefined): number | undefined =>
  value !== undefined && /^\d{1,9}$/.test(value) ? Number(value) : undefined

/** The list's filter, from the address. By default open failures, which need somebody. */
export const useFilter = () => {
  const { get, set } = useSearch()
  const state = get("state") === "any" ? undefined : (oneOf(STATES, get("state")) ?? "open")
  const errorClass = oneOf(CLASSES, get("class"))
  const code = whole(get("code"))
  const eventType = get("type")
  const period = usePeriod()
  const filter: FailureFilter = {
    ...(state !== undefined && { state }),
    ...(errorClass !== undefined && { class: errorClass }),
    ...(code !== undefined && { code }),
    ...(eventType !== undefined && { eventType }),
    ...period.between
  }
  const { state: _, ...narrowing } = filter
  return { filter, isNarrowed: Object.keys(narrowing).length > 0, period, set }
}
