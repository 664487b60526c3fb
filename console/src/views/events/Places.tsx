import { useQuery } from "@tanstack/react-query"
import type { EventId } from "clickhouse-outbox/operator-api"
import { Link } from "wouter"
import { whereQuery } from "../../api/queries.ts"
import { LIVE_MILLIS } from "../../api/queryClient.ts"
import { Failed } from "../../components/Failed.tsx"
import { Loading } from "../../components/Loading.tsx"
import { State } from "../../components/State.tsx"
import { Time } from "../../components/Time.tsx"

interface Props {
  readonly eventId: EventId
}

const VERDICT = {
  pending: "On its way to ClickHouse.",
  delivered: "ClickHouse has it.",
  failed: "Refused by ClickHouse."
} as const

/** Where an event is in the outbox and in failures. */
export const Places = ({ eventId }: Props) => {
  const query = useQuery({
    ...whereQuery(eventId),
    // Not repeated once it has arrived: this reads the whole outbox.
    refetchInterval: ({ state }) => (state.data?.state === "pending" ? LIVE_MILLIS : false)
  })
  const isGone = query.error?._tag === "Problem" && query.error.status === 404
  return (
    <section className="card" aria-labelledby="outbox">
      <h2 id="outbox">In the outbox</h2>
      {isGone && (
        <p>
          Not there, nor in a failure. Either it was delivered and has left the outbox since, which ClickHouse knows, or
          it was never committed.
        </p>
      )}
      {query.error !== null && !isGone && <Failed error={query.error} onRetry={() => void query.refetch()} />}
      {query.isPending && query.error === null && <Loading what="its places" />}
      {query.data !== undefined && (
        <>
          <p className="answer" role="status">
            <State state={query.data.state} /> {VERDICT[query.data.state]}
          </p>
          <ol className="places">
            {query.data.places.map((place) => (
              <li key={`${place.publishedAt.toISOString()} ${place.failureId}`}>
                <div>
                  Published as <strong>{place.eventType}</strong> <Time at={place.publishedAt} inline />
                </div>
                {place.batchId === null ? (
                  <div>In no batch yet</div>
                ) : (
                  <div>
                    In batch <Link href={`/batches/${place.batchId}`}>#{place.batchId}</Link>{" "}
                    {place.batchState !== null && <State state={place.batchState} />}
                  </div>
                )}
                {place.failureId !== null && (
                  <div>
                    Refused: <Link href={`/failures/${place.failureId}`}>failure {place.failureId}</Link>{" "}
                    {place.failureState !== null && <State state={place.failureState} />}
                  </div>
                )}
                {place.replayedAt !== null && (
                  <div>
                    Replayed <Time at={place.replayedAt} inline />
                  </div>
                )}
                {place.deliveredAt !== null && (
                  <div>
                    Acknowledged by ClickHouse <Time at={place.deliveredAt} inline />
                  </div>
                )}
              </li>
            ))}
          </ol>
        </>
      )}
    </section>
  )
}
