import { useInfiniteQuery } from "@tanstack/react-query"
import { auditQuery } from "../api/queries.ts"
import { AuditList } from "../components/AuditList.tsx"
import { Page } from "../components/Page.tsx"

export const Audit = () => {
  const query = useInfiniteQuery(auditQuery)
  return (
    <Page title="Audit trail">
      <p className="lead">Everything that operators changed, from here, the command line or the API.</p>
      <section className="card" aria-label="Changes">
        <AuditList query={query} empty="Nobody has changed anything yet." />
      </section>
    </Page>
  )
}
