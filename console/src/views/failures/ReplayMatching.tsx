import { useState } from "react"
import { replayMatching, useChange } from "../../api/changes.ts"
import { isRefusedAgain } from "../../api/left.ts"
import type { FailureFilter } from "../../api/queries.ts"
import { Confirm } from "../../components/Confirm.tsx"
import type { Failure } from "./model.ts"
import { sayReplayed } from "./sayReplayed.ts"

interface Props {
  readonly filter: FailureFilter
  readonly isNarrowed: boolean
  readonly shown: ReadonlyArray<Failure>
}

/** Replays every failure that matches, loaded or not: one mended column of ClickHouse may settle them all. */
export const ReplayMatching = ({ filter, isNarrowed, shown }: Props) => {
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
          {shown.some(isRefusedAgain) && (
            <p className="warning">
              Among these are events that were refused for data that nobody has corrected: unless ClickHouse’s table was
              changed since, it refuses them again.
            </p>
          )}
          <p>
            Also those further down, which are not shown. Their events are published again as they are now. Those that
            ClickHouse still refuses come back as new failures; all others arrive once. This cannot be undone.
          </p>
        </Confirm>
      )}
    </>
  )
}
