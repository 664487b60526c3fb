/** What of a failure is left to be taken care of. */
import type { Answer, Client } from "./client.ts"

type Failure = Pick<
  Answer<Client["failures"]["get"]>,
  "correctedCount" | "errorClass" | "eventCount" | "parked" | "replayedCount"
>

export const leftOf = ({ eventCount, replayedCount }: Failure): number => eventCount - replayedCount

export const isCorrected = (failure: Failure): boolean =>
  failure.correctedCount > 0 && failure.correctedCount === leftOf(failure)

/** Whether it holds what was refused for its data alone, and is as it was. */
export const isRefusedAgain = (failure: Failure): boolean =>
  failure.errorClass === "data" && !failure.parked && failure.correctedCount < leftOf(failure)
