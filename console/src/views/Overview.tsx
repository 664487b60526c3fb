import { useQuery } from "@tanstack/react-query"
import { titleOf } from "../api/AskError.ts"
import { overviewQuery, statusQuery, systemsQuery } from "../api/queries.ts"
import { useSearch } from "../api/search.ts"
import { Answered } from "../components/Answered.tsx"
import { Page } from "../components/Page.tsx"
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
  const error = status.error ?? systems.error
  return (
    <Page title="Overview" aside={status.data !== undefined && <Hold hold={status.data.relayHold} />}>
      <Verdict
        findings={findings({
          status: status.data,
          systems: systems.data,
          error: error === null ? null : { title: titleOf(error), message: error.message }
        })}
      />
      <Span span={span} onChange={(name) => set({ span: name })} />
      <Answered query={overview} what="the last minutes">
        {(overview) => <Charts overview={overview} />}
      </Answered>
      <Answered query={systems} what="databases and relays">
        {(systems) => <Systems systems={systems} />}
      </Answered>
    </Page>
  )
}
