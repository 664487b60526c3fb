import { useInfiniteQuery } from "@tanstack/react-query"
import type { FailureId } from "clickhouse-outbox/operator-api"
import { failureAuditQuery } from "../../api/queries.ts"
import { AuditList } from "../../components/AuditList.tsx"

interface Props {
  readonly id: FailureId
}

export const AuditTrail = ({ id }: Props) => {
  const query = useInfiniteQuery(failureAuditQuery(id))
  return (
    <section className="card" aria-labelledby="audit">
      <h2 id="audit">What was done</h2>
      <AuditList query={query} empty="Nobody has done anything about it yet." />
    </section>
  )
}
