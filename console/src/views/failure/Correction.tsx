import { useQueryClient } from "@tanstack/react-query"
import { lazy, Suspense, useId, useState } from "react"
import { correct, replayEvent, useChange } from "../../api/changes.ts"
import type { Correction as Changes, EventText } from "../../api/eventText.ts"
import { keepEvent } from "../../api/keepEvent.ts"
import { failureEventQuery } from "../../api/queries.ts"
import { Confirm } from "../../components/Confirm.tsx"
import { Failed } from "../../components/Failed.tsx"
import { Loading } from "../../components/Loading.tsx"
import { say } from "../../notices.ts"
import { Fields } from "./Fields.tsx"
import type { Failure } from "./model.ts"
import { useDraft } from "./useDraft.ts"
import { useUnsaved } from "./useUnsaved.ts"

const JsonEditor = lazy(() => import("../../json/JsonEditor.tsx"))

interface Props {
  readonly failure: Failure
  /** Its latest version. */
  readonly event: EventText["event"]
  /** As it was when it was opened or saved. */
  readonly saved: EventText
}

/** The event to be corrected, what was changed, and what to do with it. */
export const Correction = ({ event, failure, saved }: Props) => {
  const id = useId()
  const path = { id: failure.id, event_id: event.eventId }
  const queries = useQueryClient()
  const [asking, setAsking] = useState<"save" | "replay">()
  const { correction, draft, edit, isChanged, problem, reset, reversal } = useDraft(
    `${failure.id}/${event.eventId}`,
    saved
  )
  useUnsaved(isChanged)
  const keep = (text: EventText) => {
    keepEvent(queries, failure.id, text)
    reset(text)
  }
  const send = (changes: Changes) => correct(failure.id, event.eventId, changes)
  const undoing = useChange(send, (text) => {
    keep(text)
    say("The event is again what it was.")
  })
  const saving = useChange(send, (text) => {
    setAsking(undefined)
    keep(text)
    say("Saved. It is sent once you replay it.", { undo: () => undoing.mutate(reversal) })
  })
  const replaying = useChange(
    async () => {
      if (isChanged) keep(await send(correction))
      return replayEvent(path)
    },
    () => setAsking(undefined)
  )
  const isStale = event.correctedAt?.getTime() !== saved.event.correctedAt?.getTime()
  const isCorrected = saved.event.correctedAt !== null
  // Refused for its data, it would be refused again unchanged.
  const isLikelyToPass = isChanged || isCorrected || failure.errorClass !== "data"
  const close = () => setAsking(undefined)
  return (
    <>
      {isStale && (
        <p className="warning" role="status">
          Somebody corrected this event after you opened it.{" "}
          <button
            type="button"
            className="link"
            onClick={async () =>
              keep(await queries.fetchQuery({ ...failureEventQuery(failure.id, event.eventId), staleTime: 0 }))
            }
          >
            Show theirs
          </button>
        </p>
      )}
      <h3 id={`${id}context`}>event_context</h3>
      <Suspense fallback={<Loading what="the editor" />}>
        <JsonEditor
          label="event_context, as JSON"
          original={saved.context}
          text={draft.context}
          onChange={(context) => edit({ context })}
        />
      </Suspense>
      <Fields draft={draft} onEdit={edit} />
      <p className={problem === undefined ? "verdict quiet" : "verdict problem"} role="status">
        {problem ??
          (isChanged
            ? `Changed: ${Object.keys(correction).join(", ")}.`
            : "Correct the JSON here. What you change is shown beside what it was.")}
      </p>
      {undoing.error !== null && <Failed error={undoing.error} />}
      <div className="actions">
        <button
          type="button"
          className={isLikelyToPass ? "primary" : undefined}
          disabled={problem !== undefined}
          onClick={() => setAsking("replay")}
        >
          {isChanged ? "Save and replay…" : isCorrected ? "Replay…" : "Replay as it is…"}
        </button>
        {isChanged && (
          <>
            <button type="button" disabled={problem !== undefined} onClick={() => setAsking("save")}>
              Save…
            </button>
            <button type="button" onClick={() => reset()}>
              Take changes back
            </button>
          </>
        )}
      </div>
      {asking === "replay" && (
        <Confirm
          title={isChanged ? "Save the correction and replay the event?" : "Replay the event?"}
          action={isChanged ? "Save and replay" : "Replay"}
          isPending={replaying.isPending}
          error={replaying.error}
          onConfirm={() => replaying.mutate(undefined)}
          onClose={close}
        >
          <p>
            It is published again under its id and arrives in ClickHouse once. If ClickHouse refuses it again, it comes
            back as another failure. A replay cannot be undone.
          </p>
        </Confirm>
      )}
      {asking === "save" && (
        <Confirm
          title="Save the correction?"
          action="Save"
          isPending={saving.isPending}
          error={saving.error}
          onConfirm={() => saving.mutate(correction)}
          onClose={close}
        >
          <p>The failure stays open. The event is sent once somebody replays it.</p>
        </Confirm>
      )}
    </>
  )
}
