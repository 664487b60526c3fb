/** The OpenAPI document as the server keeps it. */
import * as OpenApi from "@effect/platform/OpenApi"
import * as Record from "effect/Record"

/** HttpApi adds an error of its own to every endpoint. This server answers it as a problem, like every other. */
export const annotations = (about: {
  readonly title: string
  readonly version: string
  readonly description: string
}) =>
  OpenApi.annotations({
    ...about,
    transform: ({ components, paths, ...document }) => {
      const { HttpApiDecodeError, Issue, Problem, PropertyKey, ...others } = components.schemas
      // It has the description of one status.
      const schemas = { ...others, Problem: { ...Problem, description: "Why a request was not done: RFC 9457." } }
      return { ...document, components: { ...components, schemas }, paths: Record.map(paths, Record.map(withProblems)) }
    }
  })

interface Operation {
  readonly responses: Readonly<Record<string, object>>
}

const withProblems = (operation: Operation): Operation => {
  const { 403: problem } = operation.responses
  const description = "A parameter or the body is not valid; `issues` says what and why."
  return { ...operation, responses: { ...operation.responses, 400: { ...problem, description } } }
}
