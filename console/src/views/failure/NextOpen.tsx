import { useInfiniteQuery, useQuery } from "@tanstack/react-query"
import { Link } from "wouter"
import { failureQuery, failuresQuery } from "../../api/queries.ts"
import type { Failure } from "./model.ts"

interface Props {
  readonly failure: Failure
}

/** From a failure that is done, the way to the one that it came back as, or to the next open one. */
export const NextOpen = ({ failure: { id, nextFailureId } }: Props) => {
  const { data } = useInfiniteQuery(failuresQuery({ state: "open" }))
  const returned = useQuery({ ...failureQuery(nextFailureId ?? id), enabled: nextFailureId !== null })
  const open = data?.pages.flatMap(({ failures }) => failures)
  if (open === undefined) return null
  const [next] = open
  if (nextFailureId !== null && returned.data?.state === "open") {
    return (
      <p role="status">
        It came back. <Link href={`/failures/${nextFailureId}`}>Next: failure {nextFailureId}</Link>
      </p>
    )
  }
  return (
    <p role="status">
      {next === undefined ? (
        "No open failure is left."
      ) : (
        <>
          Nothing is left to do here.{" "}
          <Link href={`/failures/${next.id}`}>
            Next: failure {next.id}, {next.eventTypes.join(", ")}
          </Link>
        </>
      )}
    </p>
  )
}
