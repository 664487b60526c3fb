/** Short words about what was done, which go away by themselves unless they offer to undo it. */
import { useSyncExternalStore } from "react"

export interface Notice {
  readonly id: number
  readonly text: string
  /** Takes back what was done. */
  readonly undo?: () => void
}

const listeners = new Set<() => void>()
let notices: ReadonlyArray<Notice> = []
let last = 0

const set = (next: ReadonlyArray<Notice>) => {
  notices = next
  for (const listener of listeners) listener()
}

const PLAIN_MILLIS = 6_000
const UNDOABLE_MILLIS = 30_000

export const say = (text: string, undo?: () => void) => {
  last += 1
  const notice = { id: last, text, ...(undo !== undefined && { undo }) }
  set([...notices, notice])
  setTimeout(() => dismiss(notice.id), undo === undefined ? PLAIN_MILLIS : UNDOABLE_MILLIS)
}

export const dismiss = (id: number) => set(notices.filter((notice) => notice.id !== id))

const subscribe = (listener: () => void) => {
  listeners.add(listener)
  return () => listeners.delete(listener)
}

export const useNotices = (): ReadonlyArray<Notice> => useSyncExternalStore(subscribe, () => notices)
