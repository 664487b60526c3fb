import { useQuery } from "@tanstack/react-query"
import { FailureId } from "clickhouse-outbox/operator-api"
import { failureQuery } from "../api/queries.ts"
import { Answered } from "../components/Answered.tsx"
import { Page } from "../components/Page.tsx"
import { AuditTrail } from "./failure/AuditTrail.tsx"
import { Closing } from "./failure/Closing.tsx"
import { Events } from "./failure/Events.tsx"
import { NextOpen } from "./failure/NextOpen.tsx"
import { Reason } from "./failure/Reason.tsx"
import { NotFound } from "./NotFound.tsx"

interface Props {
  readonly id: string
}

export const Failure = ({ id }: Props) =>
  /^[1-9]\d{0,14}$/.test(id) ? <KnownFailure id={FailureId.make(Number(id))} /> : <NotFound />

const KnownFailure = ({ id }: { readonly id: FailureId }) => {
  const query = useQuery(failureQuery(id))
  return (
    <Page
      title={`Failure ${id}`}
      back={["/failures", "Failures"]}
      aside={query.data !== undefined && <Closing failure={query.data} />}
    >
      <Answered query={query} what="the failure">
        {(failure) => (
          <>
            {failure.state !== "open" && <NextOpen failure={failure} />}
            <div className="sides">
              <Reason failure={failure} />
              <Events failure={failure} />
            </div>
            <AuditTrail id={id} />
          </>
        )}
      </Answered>
    </Page>
  )
}
