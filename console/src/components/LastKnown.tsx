import type { UseQueryResult } from "@tanstack/react-query"
import type { ReactNode } from "react"
import { Time } from "./Time.tsx"

interface Props<A> {
  readonly query: UseQueryResult<A>
  readonly children: (answer: A) => ReactNode
}

/** Shows a query's last answer, and how old it is once the query fails. */
export const LastKnown = <A,>({ children, query: { data, dataUpdatedAt, error } }: Props<A>) => {
  if (data === undefined) return null
  if (error === null) return children(data)
  return (
    <>
      <p className="quiet">
        As it was <Time at={new Date(dataUpdatedAt)} inline />:
      </p>
      <div className="stale">{children(data)}</div>
    </>
  )
}
