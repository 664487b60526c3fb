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
    // Finding it reads the whole outbox: not again once it is known how it ended.
    refetchInterval: ({ state }) => (state.data?.state === "pending" || state.data === undefined ? LIVE_MILLIS : false)
  })
  return (
    <Answered query={query} what="where it is">
      {({ places, state }) => {
        const [newest] = places
        const isBack = state === "failed" && newest.failureId !== null && newest.failureId !== event.failureId
        const isAcross = state === "delivered"
        return (
          <div className="journey" role="status">
            <ol>
              <li className="done">
                Published again <Time at={replayedAt} inline />
              </li>
              <li className={newest.batchId === null && !isAcross ? "busy" : "done"}>
                {newest.batchId === null ? (
                  isAcross ? (
                    "Sealed"
                  ) : (
                    "Waiting to be sealed…"
                  )
                ) : (
                  <BatchLink id={newest.batchId} />
                )}
              </li>
              <li className={isAcross ? "done" : isBack ? "failed" : "busy"}>
                {isAcross ? (
                  <>
                    In ClickHouse {newest.deliveredAt !== null && <Time at={newest.deliveredAt} inline />}{" "}
                    <Link href={`/events/${event.eventId}`}>See it there</Link>
                  </>
                ) : isBack ? (
                  <>
                    ClickHouse refused it again, as{" "}
                    <Link href={`/failures/${newest.failureId}`}>failure {newest.failureId}</Link>
                  </>
                ) : (
                  "On its way to ClickHouse…"
                )}
              </li>
            </ol>
          </div>
        )
      }}
    </Answered>
  )
}

const BatchLink = ({ id }: { readonly id: number }) => (
  <>
    In batch <Link href={`/batches/${id}`}>#{id}</Link>
  </>
)
