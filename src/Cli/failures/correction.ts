/** What an operator changes about an event, as the JSON text that `BatchFailures.correct` takes. */
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import { CORRECTABLE, type FailedEvent, toJson } from "../../BatchFailures.ts"
import { fromRawMembers, rawMembers } from "../../internal/rawMembers.ts"
import { prettyJson } from "../prettyJson.ts"

/** What can be corrected about an event, for people to edit. */
export const toDraft = (event: FailedEvent): string => {
  const members = rawMembers(toJson(event))
  return `${prettyJson(fromRawMembers(CORRECTABLE.map((name) => [name, members.get(name) ?? "null"])))}\n`
}

/**
 * What was changed in a draft: only that, so that what others correct meanwhile stays. What is no JSON object is passed
 * on as it is, to be refused with the reason.
 */
export const changesOf = (draft: string, edited: string): Option.Option<string> => {
  // Also without a byte order mark, which some editors write.
  const text = edited.trim()
  if (text === "") return Option.none()
  if (!isObject(text)) return Option.some(text)
  const was = rawMembers(draft)
  const changed = [...rawMembers(text)].filter(([name, json]) => {
    const before = was.get(name)
    return before === undefined || prettyJson(before) !== prettyJson(json)
  })
  return changed.length === 0 ? Option.none() : Option.some(fromRawMembers(changed))
}

const isObject = (text: string): boolean => {
  try {
    return Predicate.isReadonlyRecord(JSON.parse(text))
  } catch {
    return false
  }
}
