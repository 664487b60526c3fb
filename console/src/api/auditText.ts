/** The audit trail with what was and what is as it is written: corrections are about digits. */
import * as Effect from "effect/Effect"
import { rawMembers } from "../../../src/EventLines/rawMembers.ts"
import { elements } from "../json/elements.ts"
import { type Answer, asText, type Client } from "./client.ts"

type Page = Answer<Client["outbox"]["audit"]>
export type Entry = Page["entries"][number] & { readonly beforeText: string; readonly afterText: string }

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
