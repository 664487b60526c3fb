import { useInfiniteQuery } from "@tanstack/react-query"
import { useState } from "react"
import { eventLogQuery } from "../api/queries.ts"
import { Empty } from "../components/Empty.tsx"
import { Failed } from "../components/Failed.tsx"
import { Loading } from "../components/Loading.tsx"
import { LoadMore } from "../components/LoadMore.tsx"
import { Page } from "../components/Page.tsx"
import { Filters } from "./events/Filters.tsx"
import { Find } from "./events/Find.tsx"
import { Table } from "./events/Table.tsx"
import { useFilter } from "./events/useFilter.ts"

export const Events = () => {
  const asked = useFilter()
  const [isFollowing, setIsFollowing] = useState(true)
  const query = useInfiniteQuery({
    ...eventLogQuery(asked.filter),
    ...(!isFollowing && { refetchInterval: false as const })
  })
  const events = query.data?.pages.flatMap(({ events }) => events)
  return (
    <Page title="Events" aside={<Find />}>
      <p className="lead">
        What has arrived in ClickHouse’s <code>event_log</code>, newest first.
      </p>
      <Filters {...asked}>
        <label className="follow">
          <input type="checkbox" checked={isFollowing} onChange={() => setIsFollowing(!isFollowing)} />
          Show new ones as they arrive
        </label>
      </Filters>
      {query.error !== null && <Failed error={query.error} onRetry={() => void query.refetch()} />}
      {events === undefined && query.error === null && <Loading what="events" />}
      {events?.length === 0 && (
        <Empty title="No such event in this time.">
          <p>
            Look further back or for another type and environment, or find an event by its id: it may be on its way.
          </p>
        </Empty>
      )}
      {events !== undefined && events.length > 0 && <Table events={events} />}
      <LoadMore query={query} />
    </Page>
  )
}
