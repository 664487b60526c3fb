/** Filters live in the address, so that a view can be bookmarked, sent to a colleague, and left with Back. */
import { useEffect } from "react"
import { useLocation, useSearchParams } from "wouter"

const latest = new Map<string, string>()

/** A view's address with the filters that it was last left with. */
export const asLeft = (path: string): string => path + (latest.get(path) ?? "")

export const useSearch = () => {
  const [params, setParams] = useSearchParams()
  const [path] = useLocation()
  useEffect(() => {
    latest.set(path, params.size === 0 ? "" : `?${params}`)
  }, [path, params])
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
