import { Link } from "wouter"
import type { EventText } from "../../api/eventText.ts"
import { useMayChange } from "../../api/useCaller.ts"
import { Fact } from "../../components/Fact.tsx"
import { JsonText } from "../../components/JsonText.tsx"
import { Time } from "../../components/Time.tsx"
import { Correction } from "./Correction.tsx"
import { Journey } from "./Journey.tsx"
import type { Failure } from "./model.ts"

interface Props {
  readonly failure: Failure
  /** Its latest version. */
  readonly event: EventText["event"]
  /** As it was when it was opened, or when it was saved. */
  readonly text: EventText
}

export const FailedEvent = ({ event, failure, text }: Props) => {
  const mayChange = useMayChange()
  const canChange = mayChange && failure.state === "open" && event.replayedAt === null
  // Of events that were parked together, some may have been published only once.
  const isReplay = failure.previousFailureId !== null && failure.eventCount === 1
  return (
    <>
      <dl className="facts inline">
        <Fact name="Event id">
          <Link href={`/events/${event.eventId}`}>
            <code>{event.eventId}</code>
          </Link>
        </Fact>
        <Fact name="Environment">{event.environment}</Fact>
        <Fact name={isReplay ? "Published again" : "Published"}>
          <Time at={new Date(event.publishedAt)} inline />
        </Fact>
        {event.correctedAt !== null && (
          <Fact name="Corrected">
            <Time at={event.correctedAt} inline />
          </Fact>
        )}
      </dl>
      {event.replayedAt !== null && <Journey event={event} replayedAt={event.replayedAt} />}
      {canChange ? (
        <Correction failure={failure} event={event} saved={text} />
      ) : (
        <JsonText label="event_context" text={text.context} />
      )}
    </>
  )
}
