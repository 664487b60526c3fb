import type { FailureId } from "clickhouse-outbox/operator-api"
import { say } from "../notices.ts"
import { count } from "../numbers.ts"
import { reopen, useChange } from "./changes.ts"

/** Reopens failures that were discarded or resolved. */
export const useReopening = () =>
  useChange(
    (ids: ReadonlyArray<FailureId>) => reopen(ids),
    ({ failures }) => say(`Reopened ${count(failures.length, "failure")}.`)
  )
