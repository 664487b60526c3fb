import { useState } from "react"
import { replayMatching, useChange } from "../../api/changes.ts"
import type { FailureFilter } from "../../api/queries.ts"
import { Confirm } from "../../components/Confirm.tsx"
import { sayReplayed } from "./sayReplayed.ts"

interface Props {
  readonly filter: FailureFilter
  readonly isNarrowed: boolean
}

/** For what was put right for many at once, such as a column of ClickHouse's: also those that are not loaded. */
export const ReplayMatching = ({ filter, isNarrowed }: Props) => {
  const [isAsking, setIsAsking] = useState(false)
  const which = isNarrowed ? "every open failure that matches" : "every open failure"
  const replaying = useChange(
    () => replayMatching(filter),
    (replayed) => {
      setIsAsking(false)
      sayReplayed(replayed)
    }
  )
  return (
    <>
      <button type="button" onClick={() => setIsAsking(true)}>
        Replay {isNarrowed ? "all that match" : "all"}…
      </button>
      {isAsking && (
        <Confirm
          title={`Replay ${which}?`}
          action="Replay all"
          isPending={replaying.isPending}
          error={replaying.error}
          onConfirm={() => replaying.mutate(undefined)}
          onClose={() => setIsAsking(false)}
        >
          <p>
            Also those further down, which are not shown. Their events are published again as they are now. Those that
            ClickHouse still refuses come back as new failures; all others arrive once. This cannot be undone.
          </p>
        </Confirm>
      )}
    </>
  )
}
