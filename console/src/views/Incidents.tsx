import { useInfiniteQuery } from "@tanstack/react-query"
import { Link } from "wouter"
import { type IncidentFilter, incidentsQuery } from "../api/queries.ts"
import { useSearch } from "../api/search.ts"
import { Choice } from "../components/Choice.tsx"
import { Empty } from "../components/Empty.tsx"
import { Fact } from "../components/Fact.tsx"
import { Failed } from "../components/Failed.tsx"
import { Loading } from "../components/Loading.tsx"
import { LoadMore } from "../components/LoadMore.tsx"
import { Page } from "../components/Page.tsx"
import { State } from "../components/State.tsx"
import { Time } from "../components/Time.tsx"
import { meaningOf } from "./failure/advice.ts"

const STATES = ["open", "closed"] as const
const SHOWN_BATCHES = 10

export const Incidents = () => {
  const { get, set } = useSearch()
  const state = STATES.find((state) => state === get("state"))
  const filter: IncidentFilter = state === undefined ? {} : { state }
  const query = useInfiniteQuery(incidentsQuery(filter))
  const incidents = query.data?.pages.flatMap(({ incidents }) => incidents)
  return (
    <Page title="Incidents">
      <p className="lead">
        Times in which good events did not get through, such as while ClickHouse was away. They close by themselves once
        their batches are delivered.
      </p>
      <search className="filters">
        <Choice
          label="State"
          value={state ?? ""}
          options={[["", "any"], ...STATES.map((state) => [state, state] as const)]}
          onChange={(state) => set({ state })}
        />
      </search>
      {query.error !== null && <Failed error={query.error} onRetry={() => void query.refetch()} />}
      {incidents === undefined && query.error === null && <Loading what="incidents" />}
      {incidents?.length === 0 && (
        <Empty title="No incident. One is opened when batches do not get through for a while." />
      )}
      {incidents?.map((incident) => (
        <section className="card" key={incident.id} aria-labelledby={`incident-${incident.id}`}>
          <h2 id={`incident-${incident.id}`}>
            Incident {incident.id} <State state={incident.state} />
          </h2>
          <pre className="said">{incident.message}</pre>
          <dl className="facts">
            <Fact name="Kind">
              {incident.errorClass} {incident.code} {meaningOf(incident.code)?.name}
            </Fact>
            <Fact name="Began">
              <Time at={incident.beganAt} inline />
            </Fact>
            <Fact name="Last seen">
              <Time at={incident.lastSeenAt} inline />
            </Fact>
            {incident.closedAt !== null && (
              <Fact name="Closed">
                <Time at={incident.closedAt} inline />
              </Fact>
            )}
            <Fact name="Attempts that failed">{incident.attempts}</Fact>
            <Fact name="Batches">
              {incident.batchIds.slice(0, SHOWN_BATCHES).map((id) => (
                <span key={id}>
                  <Link href={`/batches/${id}`}>#{id}</Link>{" "}
                </span>
              ))}
              {incident.batchIds.length > SHOWN_BATCHES && `and ${incident.batchIds.length - SHOWN_BATCHES} more`}
            </Fact>
          </dl>
        </section>
      ))}
      <LoadMore query={query} />
    </Page>
  )
}
