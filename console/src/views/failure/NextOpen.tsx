import { useInfiniteQuery } from "@tanstack/react-query"
import { Link } from "wouter"
import { failuresQuery } from "../../api/queries.ts"

/** Whoever is done with one failure is led to the next. */
export const NextOpen = () => {
  const { data } = useInfiniteQuery(failuresQuery({ state: "open" }))
  const open = data?.pages.flatMap(({ failures }) => failures)
  if (open === undefined) return null
  const [next] = open
  return (
    <p role="status">
      {next === undefined ? (
        "No open failure is left."
      ) : (
        <>
          This one needs nobody any more.{" "}
          <Link href={`/failures/${next.id}`}>
            Next: failure {next.id}, {next.eventTypes.join(", ")}
          </Link>
        </>
      )}
    </p>
  )
}
