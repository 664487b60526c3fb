import { useInfiniteQuery } from "@tanstack/react-query"
import { BatchId } from "clickhouse-outbox/operator-api"
import { Link } from "wouter"
import { type BatchFilter, batchesQuery } from "../api/queries.ts"
import { useSearch } from "../api/search.ts"
import { Choice } from "../components/Choice.tsx"
import { Empty } from "../components/Empty.tsx"
import { Failed } from "../components/Failed.tsx"
import { Loading } from "../components/Loading.tsx"
import { LoadMore } from "../components/LoadMore.tsx"
import { Page } from "../components/Page.tsx"
import { State } from "../components/State.tsx"
import { Time } from "../components/Time.tsx"
import { bytes, integer } from "../numbers.ts"
import { duration } from "../time.ts"

const STATES = ["sealed", "leased", "retrying", "blocked", "delivered", "split", "failed"] as const

const id = (text: string | undefined) =>
  text !== undefined && /^[1-9]\d{0,14}$/.test(text) ? BatchId.make(Number(text)) : undefined

const useFilter = () => {
  const { get, set } = useSearch()
  const state = STATES.find((state) => state === get("state"))
  const originId = id(get("origin"))
  const filter: BatchFilter = { ...(state !== undefined && { state }), ...(originId !== undefined && { originId }) }
  return { filter, set }
}

export const Batches = () => {
  const { filter, set } = useFilter()
  const query = useInfiniteQuery(batchesQuery(filter))
  const batches = query.data?.pages.flatMap(({ batches }) => batches)
  return (
    <Page title="Batches">
      <p className="lead">
        What is sent to ClickHouse in one insert: the events that were committed between two looks of the relay.
      </p>
      <search className="filters">
        <Choice
          label="State"
          value={filter.state ?? ""}
          options={[["", "any"], ...STATES.map((state) => [state, state] as const)]}
          onChange={(state) => set({ state })}
        />
        {filter.originId !== undefined && (
          <button type="button" className="chip" onClick={() => set({ origin: undefined })}>
            Split off batch {filter.originId} ×
          </button>
        )}
      </search>
      {query.error !== null && <Failed error={query.error} onRetry={() => void query.refetch()} />}
      {batches === undefined && query.error === null && <Loading what="batches" />}
      {batches?.length === 0 && (
        <Empty title={filter.state === undefined ? "No batch is remembered." : `No batch is ${filter.state}.`}>
          <p>Delivered ones are forgotten after a while. The first event that is published makes the next one.</p>
        </Empty>
      )}
      {batches !== undefined && batches.length > 0 && (
        <table className="list dense">
          <thead>
            <tr>
              <th scope="col">Batch</th>
              <th scope="col" className="number">
                Events
              </th>
              <th scope="col" className="number">
                Size
              </th>
              <th scope="col" className="number">
                Attempts
              </th>
              <th scope="col">Sealed</th>
              <th scope="col">Delivered, or why not</th>
            </tr>
          </thead>
          <tbody>
            {batches.map((batch) => (
              <tr key={batch.id}>
                <th scope="row">
                  <Link href={`/batches/${batch.id}`} className="row">
                    #{batch.id}
                  </Link>{" "}
                  <State state={batch.state} />
                </th>
                <td className="number" data-label="Events">
                  {integer(batch.eventCount)}
                </td>
                <td className="number" data-label="Size">
                  {bytes(batch.byteCount)}
                </td>
                <td className="number" data-label="Attempts">
                  {batch.attempts}
                </td>
                <td data-label="Sealed">
                  <Time at={batch.sealedAt} inline />
                </td>
                <td data-label="Delivered">
                  {batch.deliveredAt !== null ? (
                    <>{duration(batch.deliveredAt.getTime() - batch.sealedAt.getTime())} after it was sealed</>
                  ) : (
                    <div className="message">{batch.message ?? "–"}</div>
                  )}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      <LoadMore query={query} />
    </Page>
  )
}
