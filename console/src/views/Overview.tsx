import { useQuery } from "@tanstack/react-query"
import { titleOf } from "../api/AskError.ts"
import { overviewQuery, statusQuery, systemsQuery } from "../api/queries.ts"
import { useSearch } from "../api/search.ts"
import { Loading } from "../components/Loading.tsx"
import { Page } from "../components/Page.tsx"
import { Time } from "../components/Time.tsx"
import { Charts } from "./overview/Charts.tsx"
import { Hold } from "./overview/Hold.tsx"
import { Span, spanOf } from "./overview/Span.tsx"
import { Systems } from "./overview/Systems.tsx"
import { Verdict } from "./overview/Verdict.tsx"
import { findings } from "./overview/verdict.ts"

export const Overview = () => {
  const { get, set } = useSearch()
  const span = spanOf(get("span"))
  const overview = useQuery(overviewQuery(span.minutes))
  const status = useQuery(statusQuery)
  const systems = useQuery(systemsQuery)
  const error = status.error ?? systems.error ?? overview.error
  return (
    <Page title="Overview" aside={status.data !== undefined && error === null && <Hold hold={status.data.relayHold} />}>
      <Verdict
        findings={findings({
          status: status.data,
          systems: systems.data,
          error: error === null ? null : { title: titleOf(error), message: error.message }
        })}
      />
      {error !== null && status.data !== undefined && (
        <p className="quiet">
          Below is what was known at <Time at={new Date(status.dataUpdatedAt)} inline />.
        </p>
      )}
      <div className={error === null ? "known" : "known stale"}>
        <Span span={span} onChange={(name) => set({ span: name })} />
        {overview.data !== undefined && <Charts overview={overview.data} backlog={status.data?.backlog} />}
        {systems.data !== undefined && <Systems systems={systems.data} />}
        {(overview.isPending || systems.isPending) && error === null && <Loading what="the last minutes" />}
      </div>
    </Page>
  )
}
