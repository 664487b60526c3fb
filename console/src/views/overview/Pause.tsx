import { useState } from "react"
import { pause, resume, useChange } from "../../api/changes.ts"
import { Confirm } from "../../components/Confirm.tsx"
import { say } from "../../notices.ts"
import type { OutboxStatus } from "./model.ts"

interface Props {
  readonly pause: OutboxStatus["relayPause"]
  /** Whether this is known to be the present state. */
  readonly isKnown: boolean
}

/** Pauses and resumes all relays. */
export const Pause = ({ pause: paused, isKnown }: Props) => {
  const [isAsking, setIsAsking] = useState(false)
  const close = () => setIsAsking(false)
  const resuming = useChange(resume, () => {
    close()
    say("Delivery goes on.")
  })
  const pausing = useChange(pause, () => {
    close()
    say("Delivery is paused.", { undo: () => resuming.mutate(undefined) })
  })
  return (
    <>
      <div className="actions">
        <button
          type="button"
          className={paused === null ? undefined : "primary"}
          disabled={!isKnown}
          onClick={() => setIsAsking(true)}
        >
          {paused === null ? "Pause delivery…" : "Resume delivery…"}
        </button>
      </div>
      {isAsking && paused === null && (
        <Confirm
          title="Pause delivery?"
          action="Pause delivery"
          isDanger
          note="Why"
          isPending={pausing.isPending}
          error={pausing.error}
          onConfirm={pausing.mutate}
          onClose={close}
        >
          <p>No relay takes a batch until somebody resumes. Publishing goes on, and events wait in Postgres.</p>
        </Confirm>
      )}
      {isAsking && paused !== null && (
        <Confirm
          title="Resume delivery?"
          action="Resume delivery"
          isPending={resuming.isPending}
          error={resuming.error}
          onConfirm={() => resuming.mutate(undefined)}
          onClose={close}
        >
          <p>
            {paused.pausedBy} paused it: {paused.reason}
          </p>
        </Confirm>
      )}
    </>
  )
}
