import { Link } from "wouter"
import type { Answer, Client } from "../../api/client.ts"
import { Time } from "../../components/Time.tsx"

type LoggedEvent = Answer<Client["eventLog"]["list"]>["events"][number]

interface Props {
  readonly events: ReadonlyArray<LoggedEvent>
}

/** Characters of a context: enough to tell events apart. */
const PREVIEW = 160

export const Table = ({ events }: Props) => (
  <table className="list dense">
    <thead>
      <tr>
        <th scope="col">When</th>
        <th scope="col">Type</th>
        <th scope="col">Environment</th>
        <th scope="col">Context</th>
      </tr>
    </thead>
    <tbody>
      {events.map((event, n) => (
        // Several may have been published under one id.
        // biome-ignore lint/suspicious/noArrayIndexKey: it only tells those apart
        <tr key={`${event.eventId} ${event.eventDateTime} ${n}`}>
          <td data-label="When">
            <Time at={new Date(event.eventDateTime)} inline />
          </td>
          <th scope="row">
            <Link href={`/events/${event.eventId}`} className="row">
              {event.eventType}
            </Link>
          </th>
          <td data-label="Environment">{event.environment}</td>
          <td className="preview">
            <code>{event.eventContext.slice(0, PREVIEW)}</code>
          </td>
        </tr>
      ))}
    </tbody>
  </table>
)
