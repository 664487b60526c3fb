import { useQuery } from "@tanstack/react-query"
import type { FailureId } from "clickhouse-outbox/operator-api"
import { Link } from "wouter"
import { arrivalsQuery } from "../api/queries.ts"
import { count } from "../numbers.ts"
import { Answered } from "./Answered.tsx"

interface Props {
  /** Failures whose events were replayed. */
  readonly ids: ReadonlyArray<FailureId>
}

/** Counts replayed events as they arrive. */
export const Arrivals = ({ ids }: Props) => (
  <Answered query={useQuery(arrivalsQuery(ids))} what="what has arrived">
    {({ delivered, failed, pending }) => {
      const all = delivered + failed + pending
      return (
        <>
          {delivered === all ? "" : `${delivered} of `}
          {count(all, "event")} in ClickHouse
          {pending > 0 && `, ${pending} on the way`}
          {failed > 0 && (
            <>
              , <Link href="/failures">{failed} refused again</Link>
            </>
          )}
          .
        </>
      )
    }}
  </Answered>
)
