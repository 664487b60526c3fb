import { useQuery } from "@tanstack/react-query"
import { Link, useRoute } from "wouter"
import { statusQuery, systemsQuery } from "./api/queries.ts"
import * as Session from "./api/session.ts"
import * as Stored from "./api/stored.ts"
import { useCaller } from "./api/useCaller.ts"
import { findings, headlineOf } from "./views/overview/verdict.ts"

interface TabProps {
  readonly href: string
  readonly pattern: string
  readonly name: string
  /** How many need somebody. */
  readonly open?: number | undefined
}

const Tab = ({ href, name, open = 0, pattern }: TabProps) => {
  const [isHere] = useRoute(pattern)
  return (
    <li>
      <Link href={href} aria-current={isHere ? "page" : undefined}>
        {name}
        {open > 0 && (
          <span className="count">
            {open}
            <span className="hidden"> open</span>
          </span>
        )}
      </Link>
    </li>
  )
}

export const Header = () => {
  const { data: status, error } = useQuery(statusQuery)
  const systems = useQuery(systemsQuery)
  const [finding] = findings({ status, systems: systems.data, error: null })
  const [isOverview] = useRoute("/")
  const token = Stored.useStored(Session.token)
  const operator = Stored.useStored(Session.operator)
  const caller = useCaller()
  const name = caller?.name ?? null
  return (
    <header className="top">
      <span className="brand">clickhouse-outbox</span>
      <nav aria-label="Views">
        <ul>
          <Tab href="/" pattern="/" name="Overview" />
          <Tab href="/failures" pattern="/failures/*?" name="Failures" open={status?.openFailures.failures} />
          <Tab href="/incidents" pattern="/incidents" name="Incidents" open={status?.openIncidents} />
          <Tab href="/batches" pattern="/batches/*?" name="Batches" />
          <Tab href="/events" pattern="/events/*?" name="Events" />
          <Tab href="/audit" pattern="/audit" name="Audit" />
        </ul>
      </nav>
      {finding.tone === "bad" && error === null && systems.error === null && !isOverview && (
        <div className="alarm">
          {finding.sentence} <Link href="/">See the overview</Link>
          <p className="hidden" role="status">
            {headlineOf(finding)}
          </p>
        </div>
      )}
      <div className="who">
        {name !== null && (
          <span>
            as <strong>{name}</strong>
            {caller?.role === "reader" && ", a reader"}{" "}
          </span>
        )}
        {name === null && operator !== null && (
          <span>
            as <strong>{operator}</strong>{" "}
            <button type="button" className="link" onClick={() => Session.operator.set(null)}>
              not you?
            </button>
          </span>
        )}
        {token !== null && (
          <button type="button" className="link" onClick={Session.signOut}>
            Sign out
          </button>
        )}
      </div>
    </header>
  )
}
