import { Link } from "wouter"
import { useNow } from "../../api/now.ts"
import { Fact } from "../../components/Fact.tsx"
import { Time } from "../../components/Time.tsx"
import { count, integer } from "../../numbers.ts"
import { duration } from "../../time.ts"
import type { DatabaseState, RelayState, Systems as SystemsModel } from "./model.ts"
import { isThere } from "./verdict.ts"

interface Props {
  readonly systems: SystemsModel
}

/** The databases and the relays between them. */
export const Systems = ({ systems: { clickhouse, postgres, relays } }: Props) => (
  <div className="systems">
    <Database name="Postgres" database={postgres} />
    <section className="card" aria-labelledby="relays">
      <h2 id="relays">Relays</h2>
      {relays === null && <p className="quiet">Not known while Postgres does not answer.</p>}
      {relays?.length === 0 && <p>None is running. Events wait in Postgres until one is started.</p>}
      <ul className="relays">
        {relays
          ?.toSorted((a, b) => Number(isThere(b)) - Number(isThere(a)))
          .map((relay) => (
            <Relay key={relay.id} relay={relay} />
          ))}
      </ul>
    </section>
    <Database name="ClickHouse" database={clickhouse} />
  </div>
)

const Database = ({ database, name }: { readonly name: string; readonly database: DatabaseState }) => {
  const isFine = database.reachable && database.migrated
  return (
    <section className="card" aria-label={name}>
      <h2>
        {name}{" "}
        <span className={isFine ? "state good" : "state bad"}>
          {isFine ? "reachable" : database.reachable ? "not migrated" : "unreachable"}
        </span>
      </h2>
      {database.reason !== null && <p className="warning">{database.reason}</p>}
      <dl className="facts">
        {database.version !== null && <Fact name="Version">{database.version}</Fact>}
        {database.pingMillis !== null && (
          <Fact name="Answers in">{Math.max(1, Math.round(database.pingMillis))} ms</Fact>
        )}
      </dl>
    </section>
  )
}

const Relay = ({ relay }: { readonly relay: RelayState }) => {
  const now = useNow()
  return (
    <li>
      <div>
        <strong>{relay.id}</strong> {relay.self && <span className="quiet">serves this page</span>}
      </div>
      {relay.leases.length === 0 && (
        <div>
          {isThere(relay) ? "Has no batch at the moment" : "Not connected: stopped, or part of another program"}
        </div>
      )}
      {relay.leases.map(({ batchId, eventCount, since }) => (
        <div key={batchId}>
          Sends <Link href={`/batches/${batchId}`}>batch #{batchId}</Link>, {count(eventCount, "event")}, for{" "}
          {duration(now - since.getTime())}
        </div>
      ))}
      <div className="quiet">
        {integer(relay.deliveredEvents)} events delivered in 15 min
        {relay.lastDeliveredAt !== null && (
          <>
            , last <Time at={relay.lastDeliveredAt} inline />
          </>
        )}
      </div>
    </li>
  )
}
