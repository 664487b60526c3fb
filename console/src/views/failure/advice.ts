/** What an error means and what to do, in the words of docs/failures.md. */
import { codes } from "../../../../src/SinkError.ts"

const names = new Map(codes.map(([code, name, , why]) => [code, { name, why }]))

/** ClickHouse's name of a code, and why it says so. */
export const meaningOf = (code: number | null) => (code === null ? undefined : names.get(code))

export const adviceOf = ({
  errorClass,
  isParked
}: {
  readonly errorClass: string
  readonly isParked: boolean
}): string => {
  if (isParked) {
    return "So many events of the batch were refused that the rest was not examined: there may be good ones among these. Replay them all: good events arrive, the others come back one by one."
  }
  return errorClass === "data"
    ? "Sending the event again as it is cannot help. Correct it and replay it, or discard it if it is not to arrive. If many events of this type fail, mend the program that publishes them."
    : "The event may be right. Put right what ClickHouse complains of, then replay it."
}
