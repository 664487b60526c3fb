import type { FailureFilter } from "../../api/queries.ts"
import { useSearch } from "../../api/search.ts"

export const STATES = ["open", "replayed", "resolved", "discarded"] as const
export const CLASSES = ["data", "transient", "in-doubt", "configuration", "unknown"] as const

const oneOf = <A extends string>(all: ReadonlyArray<A>, value: string | undefined): A | undefined =>
  all.find((one) => one === value)

const whole = (value: string | undefined): number | undefined =>
  value !== undefined && /^\d{1,9}$/.test(value) ? Number(value) : undefined

const time = (value: string | undefined): Date | undefined => {
  const at = new Date(value ?? "")
  return Number.isNaN(at.getTime()) ? undefined : at
}

/** What is asked for, as the address has it. Open failures unless it says otherwise: they are those that need somebody. */
export const useFilter = () => {
  const { get, set } = useSearch()
  const state = get("state") === "any" ? undefined : (oneOf(STATES, get("state")) ?? "open")
  const errorClass = oneOf(CLASSES, get("class"))
  const code = whole(get("code"))
  const eventType = get("type")
  const since = time(get("since"))
  const until = time(get("until"))
  const filter: FailureFilter = {
    ...(state !== undefined && { state }),
    ...(errorClass !== undefined && { class: errorClass }),
    ...(code !== undefined && { code }),
    ...(eventType !== undefined && { eventType }),
    ...(since !== undefined && { since }),
    ...(until !== undefined && { until })
  }
  const { state: _, ...narrowing } = filter
  return { filter, isNarrowed: Object.keys(narrowing).length > 0, set }
}
