import type { UseQueryResult } from "@tanstack/react-query"
import type { ReactNode } from "react"
import { Failed } from "./Failed.tsx"
import { Loading } from "./Loading.tsx"

interface Props<A> {
  readonly query: UseQueryResult<A>
  /** What is loading, such as "failures". */
  readonly what: string
  readonly children: (answer: A) => ReactNode
}

/** Shows a query's answer. Before the first one, that it is loading; when a later one fails, the error above the last. */
export const Answered = <A,>({ children, query, what }: Props<A>) => (
  <>
    {query.error !== null && <Failed error={query.error} onRetry={() => void query.refetch()} />}
    {query.data !== undefined ? children(query.data) : query.error === null && <Loading what={what} />}
  </>
)
