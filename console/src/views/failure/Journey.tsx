import { useQuery } from "@tanstack/react-query"
import { Link } from "wouter"
import type { EventText } from "../../api/eventText.ts"
import { whereQuery } from "../../api/queries.ts"
import { LIVE_MILLIS } from "../../api/queryClient.ts"
import { Answered } from "../../components/Answered.tsx"
import { Time } from "../../components/Time.tsx"

interface Props {
  readonly event: EventText["event"]
  readonly replayedAt: Date
}

/** Follows a replayed event until it has arrived, or was refused again. */
export const Journey = ({ event, replayedAt }: Props) => {
  const query = useQuery({
    ...whereQuery(event.eventId),
    // Not repeated once the outcome is known: finding it reads the whole outbox.
    refetchInterval: ({ state }) => (state.data?.state === "pending" || state.data === undefined ? LIVE_MILLIS : false)
  })
  return (
    <Answered query={query} what="where it is">
      {({ places, state }) => {
        // Newest first: the one before the row that was refused is this replay's, if it has not left the outbox.
        const place = places[places.findIndex(({ failureId }) => failureId === event.failureId) - 1]
        const batchId = place?.batchId ?? null
        const backAs = place?.failureId ?? null
        const isAcross = (place?.state ?? state) === "delivered"
        return (
          <div className="journey" role="status">
            <ol>
              <li className="done">
                Published again <Time at={replayedAt} inline />
              </li>
              {batchId !== null ? (
                <li className="done">
                  In batch <Link href={`/batches/${batchId}`}>#{batchId}</Link>
                </li>
              ) : (
                !isAcross && <li className="busy">Waiting for the next batch…</li>
              )}
              {isAcross ? (
                <li className="done">
                  In ClickHouse {place?.deliveredAt != null && <Time at={place.deliveredAt} inline />}{" "}
                  <Link href={`/events/${event.eventId}`}>See it there</Link>
                </li>
              ) : backAs !== null ? (
                <li className="failed">
                  ClickHouse refused it again, as <Link href={`/failures/${backAs}`}>failure {backAs}</Link>
                  {state === "delivered" && ", from which it was replayed and has arrived"}
                </li>
              ) : (
                batchId !== null && <li className="busy">On its way to ClickHouse…</li>
              )}
            </ol>
          </div>
        )
      }}
    </Answered>
  )
}
