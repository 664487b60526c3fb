import type { EventId } from "clickhouse-outbox/operator-api"
import type { EventText } from "../../api/eventText.ts"
import { LoadMore } from "../../components/LoadMore.tsx"

interface Props {
  readonly events: ReadonlyArray<EventText["event"]>
  readonly shown: EventId
  readonly query: Parameters<typeof LoadMore>[0]["query"]
  readonly onPick: (eventId: EventId) => void
}

const becameOf = ({ correctedAt, replayedAt }: EventText["event"]): string | undefined =>
  replayedAt !== null ? "replayed" : correctedAt !== null ? "corrected" : undefined

/** Which of a failure's events is open. */
export const EventPicker = ({ events, onPick, query, shown }: Props) => (
  <div className="picker">
    <ul>
      {events.map((event) => (
        <li key={event.eventId}>
          <button
            type="button"
            className="pick"
            aria-current={event.eventId === shown}
            onClick={() => onPick(event.eventId)}
          >
            <span>{event.eventType}</span> <code>{event.eventId}</code>{" "}
            {becameOf(event) !== undefined && <span className="state good">{becameOf(event)}</span>}
          </button>
        </li>
      ))}
    </ul>
    <LoadMore query={query} />
  </div>
)
