/** A value in the browser's storage that components see change. */
import { useSyncExternalStore } from "react"

interface Stored {
  readonly get: () => string | null
  /** Null removes it. */
  readonly set: (value: string | null) => void
  readonly subscribe: (listener: () => void) => () => void
}

/** Where storage is forbidden, the value lasts until the page is closed. */
export const make = (storage: () => Storage, key: string): Stored => {
  const listeners = new Set<() => void>()
  let value = attempt(() => storage().getItem(key)) ?? null
  return {
    get: () => value,
    set: (next) => {
      value = next
      attempt(() => (next === null ? storage().removeItem(key) : storage().setItem(key, next)))
      for (const listener of listeners) listener()
    },
    subscribe: (listener) => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    }
  }
}

export const useStored = (stored: Stored): string | null => useSyncExternalStore(stored.subscribe, stored.get)

const attempt = <A>(access: () => A): A | undefined => {
  try {
    return access()
  } catch {
    return undefined
  }
}
