const NO_OBJECT = "An event's context is a JSON object: { … }"
/** Where it is, the editor says in lines. */
const PLACE = / (in JSON )?at position .*$/s

/** Why a text is no context of an event. */
export const syntaxProblem = (text: string): string | undefined => {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === "object" && value !== null && !Array.isArray(value) ? undefined : NO_OBJECT
  } catch (error) {
    return error instanceof Error ? `This is not JSON: ${error.message.replace(PLACE, "")}` : "This is not JSON"
  }
}
