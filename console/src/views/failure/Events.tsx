import { useInfiniteQuery, useQuery } from "@tanstack/react-query"
import type { EventText } from "../../api/eventText.ts"
import { failureEventQuery, failureEventsQuery } from "../../api/queries.ts"
import { useSearch } from "../../api/search.ts"
import { Answered } from "../../components/Answered.tsx"
import { Arrivals } from "../../components/Arrivals.tsx"
import { Failed } from "../../components/Failed.tsx"
import { Loading } from "../../components/Loading.tsx"
import { EventPicker } from "./EventPicker.tsx"
import { FailedEvent } from "./FailedEvent.tsx"
import type { Failure } from "./model.ts"

interface Props {
  readonly failure: Failure
}

/** The failure's events, one of them open. */
export const Events = ({ failure }: Props) => {
  const query = useInfiniteQuery(failureEventsQuery(failure.id))
  const search = useSearch()
  const events = query.data?.pages.flatMap(({ events }) => events) ?? []
  const asked = search.get("event")
  const shown = events.find(({ eventId }) => eventId === asked) ?? events[0]
  return (
    <section className="card" aria-labelledby="event">
      <h2 id="event">{failure.eventCount === 1 ? "The event" : "The events"}</h2>
      {query.error !== null && <Failed error={query.error} onRetry={() => void query.refetch()} />}
      {query.isPending && query.error === null && <Loading what="events" />}
      {failure.eventCount > 1 && failure.replayedCount > 0 && (
        <div className="answer" role="status">
          Replayed: <Arrivals ids={[failure.id]} />
        </div>
      )}
      {failure.eventCount > 1 && shown !== undefined && (
        <EventPicker
          events={events}
          shown={shown.eventId}
          query={query}
          onPick={(eventId) => search.set({ event: eventId })}
        />
      )}
      {shown !== undefined && <Shown key={shown.eventId} failure={failure} event={shown} />}
    </section>
  )
}

const Shown = ({ event, failure }: Props & { readonly event: EventText["event"] }) => {
  const query = useQuery(failureEventQuery(failure.id, event.eventId))
  return (
    <Answered query={query} what="the event">
      {(text) => <FailedEvent failure={failure} event={event} text={text} />}
    </Answered>
  )
}
