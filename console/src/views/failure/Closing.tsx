import { useState } from "react"
import { discard, replay, resolve, useChange } from "../../api/changes.ts"
import { leftOf } from "../../api/left.ts"
import { useReopening } from "../../api/useReopening.ts"
import { Confirm } from "../../components/Confirm.tsx"
import { focus, headingAbove } from "../../components/focus.ts"
import { State } from "../../components/State.tsx"
import { say } from "../../notices.ts"
import { count } from "../../numbers.ts"
import type { Failure } from "./model.ts"

interface Props {
  readonly failure: Failure
}

type Asking = "replay" | "discard" | "resolve"

/** What can be done with the failure as a whole. */
export const Closing = ({ failure }: Props) => {
  const { id, state } = failure
  const [asking, setAsking] = useState<Asking>()
  const reopening = useReopening()
  const left = leftOf(failure)
  const close = () => setAsking(undefined)
  const undo = () => reopening.mutate([id])
  const replaying = useChange(
    () => replay([id]),
    ({ events }) => {
      close()
      say(`Replayed ${count(events, "event")} of failure ${id}.`)
    }
  )
  const discarding = useChange(
    (note: string) => discard([id], note),
    () => {
      close()
      say(`Discarded failure ${id}.`, { undo })
    }
  )
  const resolving = useChange(
    (note: string) => resolve(id, note),
    () => {
      close()
      say(`Resolved failure ${id}.`, { undo })
    }
  )
  return (
    <>
      <State state={state} />
      <div className="actions">
        {state === "open" && failure.eventCount > 1 && (
          <button type="button" onClick={() => setAsking("replay")}>
            Replay all {left}…
          </button>
        )}
        {state === "open" && (
          <>
            <button type="button" onClick={() => setAsking("resolve")}>
              Resolve…
            </button>
            <button type="button" onClick={() => setAsking("discard")}>
              Discard…
            </button>
          </>
        )}
        {(state === "discarded" || state === "resolved") && (
          <button
            type="button"
            disabled={reopening.isPending}
            onClick={({ currentTarget }) => {
              focus(headingAbove(currentTarget))
              undo()
            }}
          >
            Reopen
          </button>
        )}
      </div>
      {asking === "replay" && (
        <Confirm
          title={`Replay failure ${id}?`}
          action={`Replay ${count(left, "event")}`}
          isPending={replaying.isPending}
          error={replaying.error}
          onConfirm={() => replaying.mutate(undefined)}
          onClose={close}
        >
          <p>
            Its events are published again as they are now. Those that ClickHouse still refuses come back as new
            failures; all others arrive once. This cannot be undone.
          </p>
        </Confirm>
      )}
      {asking === "discard" && (
        <Confirm
          title={`Discard failure ${id}?`}
          action={`Discard ${count(left, "event")}`}
          isDanger
          note={left === 1 ? "Why the event is not to arrive" : "Why they are not to arrive"}
          isPending={discarding.isPending}
          error={discarding.error}
          onConfirm={discarding.mutate}
          onClose={close}
        >
          <p>
            {failure.eventCount === 1 ? "The event" : "What was not replayed"} will not be delivered. Reopening takes it
            back for as long as the failure is kept.
          </p>
        </Confirm>
      )}
      {asking === "resolve" && (
        <Confirm
          title={`Resolve failure ${id}?`}
          action="Resolve"
          note="How it was taken care of"
          isPending={resolving.isPending}
          error={resolving.error}
          onConfirm={resolving.mutate}
          onClose={close}
        >
          <p>For what reached ClickHouse, or its readers, in another way. Nothing is sent.</p>
        </Confirm>
      )}
    </>
  )
}
