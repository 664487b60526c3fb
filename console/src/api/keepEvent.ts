import type { QueryClient } from "@tanstack/react-query"
import type { FailureId } from "clickhouse-outbox/operator-api"
import type { EventText } from "./eventText.ts"
import { failureEventQuery, failureEventsQuery } from "./queries.ts"

/** Puts a saved event into every query that has it, so that the page does not take its own change for somebody else's. */
export const keepEvent = (queries: QueryClient, failureId: FailureId, text: EventText): void => {
  queries.setQueryData(failureEventQuery(failureId, text.event.eventId).queryKey, text)
  queries.setQueryData(
    failureEventsQuery(failureId).queryKey,
    (list) =>
      list && {
        ...list,
        pages: list.pages.map((page) => ({
          ...page,
          events: page.events.map((event) => (event.eventId === text.event.eventId ? text.event : event))
        }))
      }
  )
}
