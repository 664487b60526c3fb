/** What several commands say in the same words. */
import type { ErrorClass } from "../SinkError.ts"
import { oneLine } from "./text.ts"

/** The class of an error, with ClickHouse's code where there is one. */
export const errorName = (errorClass: ErrorClass | null, code: number | null): string =>
  [errorClass ?? "", code ?? ""].join(" ").trim()

/** What an error says, in one line and without the code, which {@link errorName} has. */
export const summary = (message: string | null): string =>
  oneLine((message ?? "").replace(/^Code: \d+\. (?:DB::Exception: )?/, ""))

/** A line that says how to go on, if a list was as long as it may be. */
export const more = (rows: ReadonlyArray<{ readonly id: number }>, limit: number): ReadonlyArray<string> => {
  const last = rows.at(-1)
  return last === undefined || rows.length < limit ? [] : [`There may be more: add --after ${last.id}`]
}
