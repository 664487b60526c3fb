import { useInfiniteQuery } from "@tanstack/react-query"
import { useState } from "react"
import { failuresQuery } from "../api/queries.ts"
import { Empty } from "../components/Empty.tsx"
import { Failed } from "../components/Failed.tsx"
import { Loading } from "../components/Loading.tsx"
import { LoadMore } from "../components/LoadMore.tsx"
import { Page } from "../components/Page.tsx"
import { Bulk } from "./failures/Bulk.tsx"
import { Filters } from "./failures/Filters.tsx"
import { ReplayMatching } from "./failures/ReplayMatching.tsx"
import { Table } from "./failures/Table.tsx"
import { useFilter } from "./failures/useFilter.ts"

export const Failures = () => {
  const asked = useFilter()
  const { filter, isNarrowed } = asked
  const query = useInfiniteQuery(failuresQuery(filter))
  const [selected, setSelected] = useState<ReadonlySet<number>>(new Set())
  const failures = query.data?.pages.flatMap(({ failures }) => failures)
  // Failures that were closed meanwhile drop out of the selection.
  const chosen = (failures ?? []).filter(({ id, state }) => state === "open" && selected.has(id))
  return (
    <Page title="Failures">
      <p className="lead">
        Events that ClickHouse refused. They delay no others: correct and replay them, or decide that they are not to
        arrive.
      </p>
      <Filters {...asked} />
      {query.error !== null && <Failed error={query.error} onRetry={() => void query.refetch()} />}
      {failures === undefined && query.error === null && <Loading what="failures" />}
      {failures?.length === 0 && (
        <Empty title={filter.state === "open" && !isNarrowed ? "No open failure." : "No failure matches."} />
      )}
      {failures !== undefined && failures.length > 0 && (
        <>
          <div className="bulk">
            <Bulk chosen={chosen} onDone={() => setSelected(new Set())} />
            {chosen.length === 0 && filter.state === "open" && (
              <ReplayMatching filter={filter} isNarrowed={isNarrowed} shown={failures} />
            )}
          </div>
          <Table failures={failures} selected={new Set(chosen.map(({ id }) => id))} onSelect={setSelected} />
          <LoadMore query={query} />
        </>
      )}
    </Page>
  )
}
