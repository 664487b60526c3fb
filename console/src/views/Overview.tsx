import { useQuery } from "@tanstack/react-query"
import { titleOf } from "../api/ApiError.ts"
import { overviewQuery, statusQuery, systemsQuery } from "../api/queries.ts"
import { useSearch } from "../api/search.ts"
import { useMayChange } from "../api/useCaller.ts"
import { LastKnown } from "../components/LastKnown.tsx"
import { Loading } from "../components/Loading.tsx"
import { Page } from "../components/Page.tsx"
import { Charts } from "./overview/Charts.tsx"
import { Pause } from "./overview/Pause.tsx"
import { Span, spanOf } from "./overview/Span.tsx"
import { Systems } from "./overview/Systems.tsx"
import { Verdict } from "./overview/Verdict.tsx"
import { findings } from "./overview/verdict.ts"

export const Overview = () => {
  const { get, set } = useSearch()
  const span = spanOf(get("span"))
  const overview = useQuery(overviewQuery({ minutes: span.minutes, step: span.step }))
  const status = useQuery(statusQuery)
  const systems = useQuery(systemsQuery)
  const error = status.error ?? systems.error
  const mayChange = useMayChange()
  return (
    <Page
      title="Overview"
      aside={
        status.data !== undefined && mayChange && <Pause pause={status.data.relayPause} isKnown={error === null} />
      }
    >
      <Verdict
        findings={findings({
          status: status.data,
          systems: systems.data,
          error: error === null ? null : { title: titleOf(error), message: error.message }
        })}
      />
      <Span span={span} onChange={(name) => set({ span: name })} />
      {overview.error !== null && error === null && (
        <p className="warning" role="status">
          The charts cannot be loaded. {overview.error.message}
        </p>
      )}
      <LastKnown query={overview}>
        {(overview) => <Charts overview={overview} backlog={status.data?.backlog} />}
      </LastKnown>
      <LastKnown query={systems}>{(systems) => <Systems systems={systems} />}</LastKnown>
      {(overview.isPending || systems.isPending) && error === null && <Loading what="the last minutes" />}
    </Page>
  )
}
