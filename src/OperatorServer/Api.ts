/**
 * The operator API's contract: what can be asked, with what, and what is answered.
 *
 * Nothing of the server is imported here, so a program elsewhere, or a page in a browser, can derive a client from it.
 */
import * as HttpApi from "@effect/platform/HttpApi"
import { Everywhere } from "./Api/common.ts"
import { eventLog } from "./Api/eventLog.ts"
import { failures } from "./Api/failures.ts"
import { outbox } from "./Api/outbox.ts"
import { overview } from "./Api/overview.ts"
import { relay } from "./Api/relay.ts"
import * as Document from "./OpenApi.ts"

export { BatchId, FailureId } from "../Batch.ts"
export { EventId } from "../Event.ts"
export { Actor } from "../schema/audit.ts"
export { EventCursor } from "../schema/eventLog.ts"
export { Problem } from "./Problem.ts"

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
    Document.annotations({
      title: "clickhouse-outbox",
      version: "1",
      description:
        "What operators see and do: read, correct and replay what ClickHouse refused, see how far behind the outbox is, hold its relays. Whatever goes wrong is answered as `application/problem+json` with a `detail` that says what to do."
    })
  ) {}
