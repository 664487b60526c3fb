/** The audit trail with what was and what is as it is written: corrections are about digits. */
import * as Effect from "effect/Effect"
import { rawMembers } from "../../../src/EventLines/rawMembers.ts"
import { elements } from "../json/elements.ts"
import type { Answer, Client } from "./client.ts"

type Page = Answer<Client["outbox"]["audit"]>
type Answered<E> = Effect.Effect<[Page, { readonly text: Effect.Effect<string, E> }], E>

export type Entry = Page["entries"][number] & { readonly beforeText: string; readonly afterText: string }

export const withTexts = <E>(answered: Answered<E>) =>
  Effect.flatMap(answered, ([{ entries, next }, response]) =>
    Effect.map(response.text, (text) => {
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
  )
