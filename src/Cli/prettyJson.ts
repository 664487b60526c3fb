/** JSON for people to read and edit. Laid out as text, because `JSON.parse` would change numbers. */
import { INDENT, visible } from "./text.ts"

/** A string, a character of structure, or whatever else is between them: numbers, true, false, null. */
const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\]:,]|[^\s{}[\]:,"]+/g

const isOpening = (token = "") => token === "{" || token === "["
const isClosing = (token = "") => token === "}" || token === "]"

/** @param text JSON that `JSON.parse` accepts */
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
