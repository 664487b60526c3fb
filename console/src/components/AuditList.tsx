import { Link } from "wouter"
import type { ApiError } from "../api/ApiError.ts"
import { detailOf, type Entry } from "../api/auditText.ts"
import { Failed } from "./Failed.tsx"
import { JsonText } from "./JsonText.tsx"
import { Loading } from "./Loading.tsx"
import { LoadMore } from "./LoadMore.tsx"
import { Time } from "./Time.tsx"

interface Props {
  readonly query: Parameters<typeof LoadMore>[0]["query"] & {
    readonly data: { readonly pages: ReadonlyArray<{ readonly entries: ReadonlyArray<Entry> }> } | undefined
    readonly error: ApiError | null
    readonly refetch: () => unknown
  }
  readonly empty: string
}

const DID: Readonly<Record<Entry["action"], string>> = {
  correct: "corrected",
  replay: "replayed",
  discard: "discarded",
  resolve: "resolved",
  reopen: "reopened",
  requeue: "had a batch sent again",
  pause: "paused delivery",
  resume: "resumed delivery"
}

/** Who did what, newest first. */
export const AuditList = ({ empty, query }: Props) => {
  const entries = query.data?.pages.flatMap(({ entries }) => entries)
  return (
    <>
      {query.error !== null && <Failed error={query.error} onRetry={() => query.refetch()} />}
      {entries === undefined && query.error === null && <Loading what="the audit trail" />}
      {entries?.length === 0 && <p className="quiet">{empty}</p>}
      {entries !== undefined && entries.length > 0 && (
        <ol className="audit">
          {entries.map((entry) => (
            <li key={entry.id}>
              <Time at={entry.occurredAt} />
              <div>
                <strong>{entry.actor}</strong> {DID[entry.action]}
                {entry.failureId !== null && (
                  <>
                    {" "}
                    <Link href={`/failures/${entry.failureId}`}>failure {entry.failureId}</Link>
                  </>
                )}
                {entry.eventId !== null && (
                  <>
                    , event <code>{entry.eventId}</code>
                  </>
                )}
                <span className="quiet">{detailOf(entry)}</span>
                <details>
                  <summary>Before and after</summary>
                  <div className="sides">
                    <JsonText label="Before" text={entry.beforeText} />
                    <JsonText label="After" text={entry.afterText} />
                  </div>
                </details>
              </div>
            </li>
          ))}
        </ol>
      )}
      <LoadMore query={query} />
    </>
  )
}
