import type { UseQueryResult } from "@tanstack/react-query"
import type { ReactNode } from "react"
import { Failed } from "./Failed.tsx"
import { Loading } from "./Loading.tsx"

interface Props<A> {
  readonly query: UseQueryResult<A>
  /** What is on its way, such as "failures". */
  readonly what: string
  readonly children: (answer: A) => ReactNode
}

/** Shows an answer. Until it is there, that it is on its way; if it gets old, the last one with the reason above it. */
export const Answered = <A,>({ children, query, what }: Props<A>) => (
  <>
    {query.error !== null && <Failed error={query.error} onRetry={() => void query.refetch()} />}
    {query.data !== undefined ? children(query.data) : query.error === null && <Loading what={what} />}
  </>
)
