import type { Answer, Client } from "../../api/client.ts"
import { say } from "../../notices.ts"
import { count } from "../../numbers.ts"

/** How many failures the API counts the arrivals of at once. */
const WATCHED = 500

/** Says what was replayed, and counts it as it arrives. */
export const sayReplayed = ({ events, failures }: Answer<Client["failures"]["replayAll"]>) =>
  say(
    `Replayed ${count(events, "event")} of ${count(failures.length, "failure")}.`,
    failures.length > 0 && failures.length <= WATCHED ? { replayed: failures } : {}
  )
