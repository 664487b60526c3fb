/**
 * The elements of a JSON array as they are written.
 *
 * @param text a JSON array that `JSON.parse` accepts
 */
export const elements = (text: string): ReadonlyArray<string> => {
  const found: Array<string> = []
  let depth = 0
  let start = text.indexOf("[") + 1
  for (let at = start; at < text.length; at++) {
    const character = text[at]
    if (character === '"') at = stringEnd(text, at)
    else if (depth === 0 && (character === "," || character === "]")) {
      const element = text.slice(start, at).trim()
      if (element !== "") found.push(element)
      if (character === "]") break
      start = at + 1
    } else if (character === "{" || character === "[") depth++
    else if (character === "}" || character === "]") depth--
  }
  return found
}

/** At the quotation mark that ends the string which begins at `at`. */
const stringEnd = (text: string, at: number): number => {
  let end = at + 1
  while (text[end] !== '"') end += text[end] === "\\" ? 2 : 1
  return end
}
