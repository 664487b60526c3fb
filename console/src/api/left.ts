/** How much of a failure is left to take care of. */
import type { Answer, Client } from "./client.ts"

type Failure = Pick<
  Answer<Client["failures"]["get"]>,
  "correctedCount" | "errorClass" | "eventCount" | "parked" | "replayedCount"
>

export const leftOf = ({ eventCount, replayedCount }: Failure): number => eventCount - replayedCount

export const isCorrected = (failure: Failure): boolean =>
  failure.correctedCount > 0 && failure.correctedCount === leftOf(failure)

/** Whether replaying it would fail again: it was refused for its data, and not all of it was corrected. */
export const isRefusedAgain = (failure: Failure): boolean =>
  failure.errorClass === "data" && !failure.parked && failure.correctedCount < leftOf(failure)
