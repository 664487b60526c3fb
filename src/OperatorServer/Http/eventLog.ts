/** The endpoints of what has arrived in ClickHouse. */
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as Effect from "effect/Effect"
import { EventLog } from "../../EventLog.ts"
import type { Ask } from "../Answer.ts"
import { Api } from "../Api.ts"

export const eventLog = (ask: Ask) =>
  HttpApiBuilder.group(Api, "eventLog", (handlers) =>
    Effect.map(EventLog, (eventLog) =>
      handlers
        .handle("list", ({ urlParams: { type, ...filter } }) => ask(eventLog.list({ eventType: type, ...filter })))
        .handle("names", ({ urlParams: { since } }) => ask(eventLog.names(since)))
        .handle("event", ({ path, urlParams: { type, ...range } }) =>
          ask(
            Effect.map(
              eventLog.find(path.event_id, { ...(type !== undefined && { eventType: type }), ...range }),
              (events) => ({ events })
            )
          )
        )
    )
  )
