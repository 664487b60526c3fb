import type { QueryClient } from "@tanstack/react-query"
import type { FailureId } from "clickhouse-outbox/operator-api"
import type { EventText } from "./eventText.ts"
import { failureEventQuery, failureEventsQuery } from "./queries.ts"

/** Has an event as it is by now wherever it was read: one's own change is not to be taken for somebody else's. */
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
