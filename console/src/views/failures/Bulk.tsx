import { useState } from "react"
import { discard, replay, useChange } from "../../api/changes.ts"
import { isRefusedAgain, leftOf } from "../../api/left.ts"
import { useReopening } from "../../api/useReopening.ts"
import { Confirm } from "../../components/Confirm.tsx"
import { say } from "../../notices.ts"
import { count } from "../../numbers.ts"
import type { Failure } from "./model.ts"
import { sayReplayed } from "./sayReplayed.ts"

interface Props {
  readonly chosen: ReadonlyArray<Failure>
  readonly onDone: () => void
}

/** What can be done with the selected failures. */
export const Bulk = ({ chosen, onDone }: Props) => {
  const [asking, setAsking] = useState<"replay" | "discard">()
  const reopening = useReopening()
  const ids = chosen.map(({ id }) => id)
  const failures = count(chosen.length, "failure")
  const events = count(
    chosen.reduce((sum, failure) => sum + leftOf(failure), 0),
    "event"
  )
  const uncorrected = chosen.filter(isRefusedAgain).length
  const done = () => {
    setAsking(undefined)
    onDone()
  }
  const replaying = useChange(
    () => replay(ids),
    (replayed) => {
      done()
      sayReplayed(replayed)
    }
  )
  const discarding = useChange(
    (note: string) => discard(ids, note),
    (discarded) => {
      done()
      say(`Discarded ${count(discarded.failures.length, "failure")}.`, {
        undo: () => reopening.mutate(discarded.failures)
      })
    }
  )
  return (
    <>
      <span role="status">
        {chosen.length === 0 ? "Select failures to replay or discard several at once." : `${failures} selected`}
      </span>
      <button type="button" disabled={chosen.length === 0} onClick={() => setAsking("replay")}>
        Replay…
      </button>
      <button type="button" disabled={chosen.length === 0} onClick={() => setAsking("discard")}>
        Discard…
      </button>
      {asking === "replay" && (
        <Confirm
          title={`Replay ${failures}?`}
          action={`Replay ${events}`}
          isPending={replaying.isPending}
          error={replaying.error}
          onConfirm={() => replaying.mutate(undefined)}
          onClose={() => setAsking(undefined)}
        >
          {uncorrected > 0 && (
            <p className="warning">
              {uncorrected} of these failures {uncorrected === 1 ? "was" : "were"} refused for data that nobody has
              corrected: unless ClickHouse’s table was changed since, it refuses {uncorrected === 1 ? "it" : "them"}{" "}
              again.
            </p>
          )}
          <p>
            Their events are published again as they are now. Those that ClickHouse still refuses come back as new
            failures; all others arrive once. This cannot be undone.
          </p>
        </Confirm>
      )}
      {asking === "discard" && (
        <Confirm
          title={`Discard ${failures}?`}
          action={`Discard ${events}`}
          isDanger
          note="Why they are not to arrive"
          isPending={discarding.isPending}
          error={discarding.error}
          onConfirm={discarding.mutate}
          onClose={() => setAsking(undefined)}
        >
          <p>Their events will not be delivered. Reopening takes it back for as long as the failure is kept.</p>
        </Confirm>
      )}
    </>
  )
}
