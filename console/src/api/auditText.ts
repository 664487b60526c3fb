/** The audit trail, with before and after as text: corrections are about digits, which JavaScript's numbers would change. */
import * as Effect from "effect/Effect"
import { rawMembers } from "../../../src/internal/jsonText.ts"
import { elements } from "../json/elements.ts"
import { count } from "../numbers.ts"
import { type Answer, asText, type Client } from "./client.ts"

type Page = Answer<Client["outbox"]["audit"]>
export type Entry = Page["entries"][number] & { readonly beforeText: string; readonly afterText: string }

/** The end of an entry's line: a reason as it was written, or what the change came to. */
export const detailOf = ({ action, afterText, beforeText, eventId }: Entry): string => {
  const after = rawMembers(afterText)
  const number = (name: string) => Number(after.get(name) ?? 0)
  switch (action) {
    case "correct": {
      const columns = [...after.keys()].filter((name) => name !== "corrected_at").join(", ")
      return `${columns === "" ? "" : `: ${columns}`}${after.has("corrected_at") ? ", back to what was refused" : ""}`
    }
    case "replay":
      return eventId === null ? `: ${count(number("replayed_events"), "event")}` : ""
    case "requeue":
      return `: batch #${number("batch_id")}, ${count(number("missing_events"), "event")} missing`
    case "discard":
    case "resolve":
      return quoted(": ", after.get("note"))
    case "pause":
      return quoted(": ", after.get("reason"))
    case "resume":
      return quoted(", who had been paused for ", rawMembers(beforeText).get("reason"))
    case "reopen":
      return ""
  }
}

const quoted = (before: string, json: string | undefined): string => {
  const text: unknown = JSON.parse(json ?? "null")
  return typeof text === "string" ? `${before}“${text}”` : ""
}

export const get = <E>(use: (client: Client) => Effect.Effect<Page, E>) =>
  Effect.map(asText(use), ({ answer: { entries, next }, text }) => {
    const texts = elements(rawMembers(text).get("entries") ?? "[]").map(rawMembers)
    return {
      next,
      entries: entries.map(
        (entry, n): Entry => ({
          ...entry,
          beforeText: texts[n]?.get("before") ?? "{}",
          afterText: texts[n]?.get("after") ?? "{}"
        })
      )
    }
  })
