import { useState } from "react"
import { hold, resume, useChange } from "../../api/changes.ts"
import { Confirm } from "../../components/Confirm.tsx"
import { say } from "../../notices.ts"
import type { OutboxStatus } from "./model.ts"

interface Props {
  readonly hold: OutboxStatus["relayHold"]
  /** Whether it is so at this moment. */
  readonly isKnown: boolean
}

/** Keeps all relays from delivering, and lets them again. */
export const Hold = ({ hold: held, isKnown }: Props) => {
  const [isAsking, setIsAsking] = useState(false)
  const close = () => setIsAsking(false)
  const resuming = useChange(resume, () => {
    close()
    say("Delivery goes on.")
  })
  const holding = useChange(hold, () => {
    close()
    say("Delivery is held.", { undo: () => resuming.mutate(undefined) })
  })
  return (
    <>
      <div className="actions">
        <button
          type="button"
          className={held === null ? undefined : "primary"}
          disabled={!isKnown}
          onClick={() => setIsAsking(true)}
        >
          {held === null ? "Hold delivery…" : "Resume delivery…"}
        </button>
      </div>
      {isAsking && held === null && (
        <Confirm
          title="Hold delivery?"
          action="Hold delivery"
          isDanger
          note="Why"
          isPending={holding.isPending}
          error={holding.error}
          onConfirm={holding.mutate}
          onClose={close}
        >
          <p>No relay takes a batch until somebody resumes. Publishing goes on, and events wait in Postgres.</p>
        </Confirm>
      )}
      {isAsking && held !== null && (
        <Confirm
          title="Resume delivery?"
          action="Resume delivery"
          isPending={resuming.isPending}
          error={resuming.error}
          onConfirm={() => resuming.mutate(undefined)}
          onClose={close}
        >
          <p>
            {held.heldBy} holds it: {held.reason}
          </p>
        </Confirm>
      )}
    </>
  )
}
