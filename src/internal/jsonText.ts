/**
 * JSON as text, whose numbers keep their digits: `JSON.parse` turns 12345678901234567890 into 12345678901234567000.
 */
import { visible } from "./text.ts"

/**
 * The members of a JSON object as they are written.
 *
 * @param text a JSON object that `JSON.parse` accepts
 * @returns each member's value as JSON text. Of members with one name the last counts, as in `JSON.parse` and jsonb
 */
export const rawMembers = (text: string): ReadonlyMap<string, string> => {
  const members = new Map<string, string>()
  let at = text.indexOf('"')
  while (at !== -1) {
    const nameEnd = stringEnd(text, at)
    const valueStart = text.indexOf(":", nameEnd) + 1
    const valueEnd = findValueEnd(text, valueStart)
    members.set(JSON.parse(text.slice(at, nameEnd)), text.slice(valueStart, valueEnd).trim())
    at = text.indexOf('"', valueEnd)
  }
  return members
}

/** The object again: members whose values are JSON text already. */
export const fromRawMembers = (members: Iterable<readonly [name: string, json: string]>): string =>
  `{${Array.from(members, ([name, json]) => `${JSON.stringify(name)}:${json}`).join()}}`

/** Behind the quotation mark that closes the string which begins at `at`. */
const stringEnd = (text: string, at: number): number => {
  let end = at + 1
  while (text[end] !== '"') end += text[end] === "\\" ? 2 : 1
  return end + 1
}

/** At the comma or brace that follows the value. */
const findValueEnd = (text: string, from: number): number => {
  let depth = 0
  let at = from
  while (at < text.length) {
    const character = text[at]
    if (character === '"') {
      at = stringEnd(text, at)
      continue
    }
    if (depth === 0 && (character === "," || character === "}")) break
    if (character === "{" || character === "[") depth++
    if (character === "}" || character === "]") depth--
    at++
  }
  return at
}

const INDENT = "  "

/** A string, a character of structure, or whatever else is between them: numbers, true, false, null. */
const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\]:,]|[^\s{}[\]:,"]+/g

const isOpening = (token = "") => token === "{" || token === "["
const isClosing = (token = "") => token === "}" || token === "]"

/**
 * JSON laid out for people to read and edit.
 *
 * @param text JSON that `JSON.parse` accepts
 */
export const prettyJson = (text: string): string => {
  const tokens = text.match(TOKEN) ?? []
  let depth = 0
  const line = () => `\n${INDENT.repeat(depth)}`
  return tokens
    .map((token, n) => {
      if (isOpening(token)) {
        depth++
        return isClosing(tokens[n + 1]) ? token : token + line()
      }
      if (isClosing(token)) {
        depth--
        return isOpening(tokens[n - 1]) ? token : line() + token
      }
      if (token === ",") return token + line()
      return token === ":" ? ": " : visible(token)
    })
    .join("")
}
