import { useQuery } from "@tanstack/react-query"
import { BatchId } from "clickhouse-outbox/operator-api"
import { Link } from "wouter"
import { batchQuery } from "../api/queries.ts"
import { Answered } from "../components/Answered.tsx"
import { Fact } from "../components/Fact.tsx"
import { Page } from "../components/Page.tsx"
import { State } from "../components/State.tsx"
import { Time } from "../components/Time.tsx"
import { bytes, count } from "../numbers.ts"
import { duration } from "../time.ts"
import { meaningOf } from "./failure/advice.ts"
import { NotFound } from "./NotFound.tsx"

interface Props {
  readonly id: string
}

export const Batch = ({ id }: Props) =>
  /^[1-9]\d{0,14}$/.test(id) ? <KnownBatch id={BatchId.make(Number(id))} /> : <NotFound />

const KnownBatch = ({ id }: { readonly id: BatchId }) => {
  const query = useQuery(batchQuery(id))
  return (
    <Page
      title={`Batch ${id}`}
      back={["/batches", "Batches"]}
      aside={query.data !== undefined && <State state={query.data.state} />}
    >
      <Answered query={query} what="the batch">
        {(batch) => (
          <section className="card" aria-label="Batch">
            {batch.message !== null && (
              <>
                <h2>Last error</h2>
                <pre className="said">{batch.message}</pre>
                <p>
                  {batch.errorClass} {batch.code} {meaningOf(batch.code)?.name}
                </p>
              </>
            )}
            <dl className="facts">
              <Fact name="Events">
                {count(batch.eventCount, "event")}, {bytes(batch.byteCount)}
              </Fact>
              <Fact name="Sealed">
                <Time at={batch.sealedAt} inline />
              </Fact>
              {batch.deliveredAt !== null && (
                <Fact name="Delivered">
                  <Time at={batch.deliveredAt} inline />,{" "}
                  {duration(batch.deliveredAt.getTime() - batch.sealedAt.getTime())} after it was sealed
                </Fact>
              )}
              <Fact name="Attempts">{batch.attempts}</Fact>
              {batch.availableAt !== null && (
                <Fact name={batch.state === "leased" ? "Leased until" : "Tried again from"}>
                  <Time at={batch.availableAt} inline />
                </Fact>
              )}
              {batch.leaseOwner !== null && <Fact name="Relay">{batch.leaseOwner}</Fact>}
              {batch.parentId !== null && (
                <Fact name="Split off">
                  <Link href={`/batches/${batch.parentId}`}>#{batch.parentId}</Link>
                </Fact>
              )}
              {batch.state === "split" && (
                <Fact name="Split into">
                  <Link href={`/batches?origin=${batch.originId ?? batch.id}`}>its parts</Link>
                </Fact>
              )}
              {batch.incidentId !== null && (
                <Fact name="Incident">
                  <Link href="/incidents">#{batch.incidentId}</Link>
                </Fact>
              )}
              {batch.failureId !== null && (
                <Fact name="Became">
                  <Link href={`/failures/${batch.failureId}`}>Failure {batch.failureId}</Link>
                </Fact>
              )}
              <Fact name="De-duplication token">
                <code>{batch.token}</code>
              </Fact>
            </dl>
          </section>
        )}
      </Answered>
    </Page>
  )
}
