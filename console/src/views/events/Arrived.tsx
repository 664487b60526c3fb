import { useQuery } from "@tanstack/react-query"
import type { EventId } from "clickhouse-outbox/operator-api"
import { type Hints, loggedEventQuery, whereQuery } from "../../api/queries.ts"
import { LIVE_MILLIS } from "../../api/queryClient.ts"
import { Fact } from "../../components/Fact.tsx"
import { Failed } from "../../components/Failed.tsx"
import { JsonText } from "../../components/JsonText.tsx"
import { Loading } from "../../components/Loading.tsx"
import { Time } from "../../components/Time.tsx"

interface Props {
  readonly eventId: EventId
}

const MARGIN_MILLIS = 1_000

/** An event's rows in ClickHouse. While the outbox still has the event, it says where to look. */
export const Arrived = ({ eventId }: Props) => {
  const { data: where, isPending: isLookedFor } = useQuery({ ...whereQuery(eventId), refetchInterval: false })
  const [place] = where?.places ?? []
  const time = new Date(place?.eventDateTime ?? "").getTime()
  const hints: Hints =
    place === undefined || Number.isNaN(time)
      ? {}
      : { type: place.eventType, since: new Date(time - MARGIN_MILLIS), until: new Date(time + MARGIN_MILLIS) }
  const isExpected = where?.state === "pending" || where?.state === "delivered"
  const query = useQuery({
    ...loggedEventQuery(eventId, hints),
    enabled: !isLookedFor,
    refetchInterval: ({ state }) => (state.data === undefined && isExpected ? LIVE_MILLIS : false)
  })
  const isAbsent = query.error?._tag === "Problem" && query.error.status === 404
  return (
    <section className="card" aria-labelledby="clickhouse">
      <h2 id="clickhouse">In ClickHouse</h2>
      {isAbsent && <p>Not there{where?.state === "pending" ? " yet" : ""}.</p>}
      {query.error !== null && !isAbsent && <Failed error={query.error} onRetry={() => void query.refetch()} />}
      {query.isPending && query.error === null && <Loading what="the event" />}
      {query.data !== undefined && query.data.events.length > 1 && (
        <p className="warning">{query.data.events.length} events were published under this id.</p>
      )}
      {query.data?.events.map((event, n) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: rows of one id may be alike
        <div key={n}>
          <dl className="facts">
            <Fact name="Type">{event.eventType}</Fact>
            <Fact name="Happened">
              <Time at={new Date(event.eventDateTime)} inline />
            </Fact>
            <Fact name="Environment">{event.environment}</Fact>
            <Fact name="Version">{event.metadataVersion}</Fact>
            {event.traceId !== "" && (
              <Fact name="Trace">
                <code>{event.traceId}</code>
              </Fact>
            )}
          </dl>
          <JsonText label="event_context" text={event.eventContext} />
        </div>
      ))}
    </section>
  )
}
