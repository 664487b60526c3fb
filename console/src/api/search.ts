/** Filters live in the address, so that a view can be bookmarked, sent to a colleague, and left with Back. */
import { useSearchParams } from "wouter"

export const useSearch = () => {
  const [params, setParams] = useSearchParams()
  const get = (name: string): string | undefined => params.get(name) ?? undefined
  const set = (changes: Readonly<Record<string, string | undefined>>) =>
    setParams(
      (before) => {
        const after = new URLSearchParams(before)
        for (const [name, value] of Object.entries(changes)) {
          if (value === undefined || value === "") after.delete(name)
          else after.set(name, value)
        }
        return after
      },
      { replace: true }
    )
  return { get, set }
}
