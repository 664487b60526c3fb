import { Link } from "wouter"
import { isCorrected } from "../../api/left.ts"
import { Fact } from "../../components/Fact.tsx"
import { Time } from "../../components/Time.tsx"
import { count } from "../../numbers.ts"
import { adviceOf, meaningOf } from "./advice.ts"
import type { Failure } from "./model.ts"

interface Props {
  readonly failure: Failure
}

const replayedOf = ({ eventCount, replayedCount }: Failure): string => {
  if (replayedCount === 0) return ""
  return replayedCount === eventCount ? ", replayed" : `, ${replayedCount} of them replayed`
}

/** What ClickHouse said, and what that means. */
export const Reason = ({ failure }: Props) => {
  const meaning = meaningOf(failure.code)
  return (
    <section className="card" aria-labelledby="reason">
      <h2 id="reason">What ClickHouse said</h2>
      <pre className="said">{failure.message}</pre>
      {meaning !== undefined && (
        <p>
          <code>
            {failure.code} {meaning.name}
          </code>
          : {meaning.why}.
        </p>
      )}
      {failure.state === "open" && (
        <p className="advice">
          {isCorrected(failure)
            ? "Corrected. Nothing is sent until it is replayed."
            : adviceOf({ errorClass: failure.errorClass, isParked: failure.parked })}
        </p>
      )}
      <dl className="facts">
        <Fact name="Events">
          {count(failure.eventCount, "event")} of {failure.eventTypes.join(", ")}
          {replayedOf(failure)}
        </Fact>
        <Fact name="Last refused">
          <Time at={failure.lastSeenAt} inline />
        </Fact>
        {failure.lastSeenAt.getTime() - failure.firstSeenAt.getTime() > 1_000 && (
          <Fact name="First refused">
            <Time at={failure.firstSeenAt} inline />
          </Fact>
        )}
        <Fact name="Attempts">{failure.attempts}</Fact>
        <Fact name="Batch">
          <Link href={`/batches/${failure.batchId}`}>#{failure.batchId}</Link>
          {failure.originBatchId !== failure.batchId && (
            <>
              , split off <Link href={`/batches/${failure.originBatchId}`}>#{failure.originBatchId}</Link>
            </>
          )}
        </Fact>
        {failure.previousFailureId !== null && (
          <Fact name="Was before">
            <Link href={`/failures/${failure.previousFailureId}`}>Failure {failure.previousFailureId}</Link>, and was
            refused again
          </Fact>
        )}
        {failure.nextFailureId !== null && (
          <Fact name="Came back as">
            <Link href={`/failures/${failure.nextFailureId}`}>Failure {failure.nextFailureId}</Link>
          </Fact>
        )}
        {failure.closedAt !== null && (
          <Fact name="Closed">
            <Time at={failure.closedAt} inline />
          </Fact>
        )}
        {failure.note !== null && <Fact name="Because">{failure.note}</Fact>}
      </dl>
    </section>
  )
}
