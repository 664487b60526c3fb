/**
 * The operator API's contract: what can be asked, with what, and what is answered.
 *
 * Nothing of the server is imported here, so a program elsewhere, or a page in a browser, can derive a client from it.
 */
import * as HttpApi from "@effect/platform/HttpApi"
import * as OpenApi from "@effect/platform/OpenApi"
import * as Record from "effect/Record"
import { eventLog } from "./Api/eventLog.ts"
import { failures } from "./Api/failures.ts"
import { Everywhere } from "./Api/fields.ts"
import { outbox, overview, relay } from "./Api/outbox.ts"

export { BatchId, FailureId } from "../Batch.ts"
export { EventId } from "../Event.ts"
export { Role } from "../internal/callers.ts"
export { Actor } from "../schema/audit.ts"
export { EventCursor } from "../schema/eventLog.ts"
export { Problem } from "./Problem.ts"

interface Operation {
  readonly responses: Readonly<Record<string, object>>
}

/** HttpApi documents an error of its own for what it cannot decode. The server answers a problem for that too. */
const invalidIsProblem = (operation: Operation): Operation => {
  const { 403: problem } = operation.responses
  const description = "A parameter or the body is not valid; `issues` says what and why."
  return { ...operation, responses: { ...operation.responses, 400: { ...problem, description } } }
}

/**
 * @since 0.1.0
 * @category contract
 */
export class Api extends HttpApi.make("operator")
  .add(failures)
  .add(outbox)
  .add(relay)
  .add(overview)
  .add(eventLog)
  .addError(Everywhere)
  .prefix("/api")
  .annotateContext(
    OpenApi.annotations({
      title: "clickhouse-outbox",
      version: "1",
      description:
        "What operators see and do: read, correct and replay what ClickHouse refused, see how far behind the outbox is, pause its relays. Whatever goes wrong is answered as `application/problem+json` with a `detail` that says what to do.",
      transform: ({ components, paths, ...document }) => {
        const { HttpApiDecodeError, Issue, Problem, PropertyKey, ...others } = components.schemas
        // Problem's own description is that of one status.
        const schemas = { ...others, Problem: { ...Problem, description: "Why a request was not done: RFC 9457." } }
        return {
          ...document,
          components: { ...components, schemas },
          paths: Record.map(paths, Record.map(invalidIsProblem))
        }
      }
    })
  ) {}
