/** Short notices of what was done. They go away by themselves, later if they offer an undo or count arrivals. */
import type { FailureId } from "clickhouse-outbox/operator-api"
import { useSyncExternalStore } from "react"

interface Notice {
  readonly id: number
  readonly text: string
  /** Undoes it. */
  readonly undo?: () => void
  /** Failures whose replayed events are counted as they arrive. */
  readonly replayed?: ReadonlyArray<FailureId>
}

const listeners = new Set<() => void>()
let notices: ReadonlyArray<Notice> = []
let last = 0

const set = (next: ReadonlyArray<Notice>) => {
  notices = next
  for (const listener of listeners) listener()
}

const PLAIN_MILLIS = 6_000
const LONG_MILLIS = 30_000

export const say = (text: string, more: Pick<Notice, "undo" | "replayed"> = {}) => {
  last += 1
  const notice = { id: last, text, ...more }
  // Only the newest change can be undone here: an older undo may no longer apply.
  set([...notices.filter(({ undo }) => undo === undefined), notice])
  setTimeout(() => dismiss(notice.id), Object.keys(more).length === 0 ? PLAIN_MILLIS : LONG_MILLIS)
}

export const dismiss = (id: number) => set(notices.filter((notice) => notice.id !== id))

const subscribe = (listener: () => void) => {
  listeners.add(listener)
  return () => listeners.delete(listener)
}

export const useNotices = (): ReadonlyArray<Notice> => useSyncExternalStore(subscribe, () => notices)
