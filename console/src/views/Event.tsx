import { EventId } from "clickhouse-outbox/operator-api"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { Empty } from "../components/Empty.tsx"
import { Page } from "../components/Page.tsx"
import { Arrived } from "./events/Arrived.tsx"
import { Find } from "./events/Find.tsx"
import { Places } from "./events/Places.tsx"

interface Props {
  readonly id: string
}

/** Where an event is now, and its rows in ClickHouse. */
export const Event = ({ id }: Props) =>
  Option.match(Schema.decodeOption(EventId)(id), {
    onNone: () => (
      <Page title="Find an event" back={["/events", "Events"]} aside={<Find />}>
        <Empty title="This is no event’s id.">
          <p>
            An id is a uuid, such as <code>01a1fb4b-f0eb-77ab-b942-67d230829a9b</code>.
          </p>
        </Empty>
      </Page>
    ),
    onSome: (eventId) => (
      <Page title="Where is it now?" back={["/events", "Events"]} aside={<Find />}>
        <p className="lead">
          Event <code>{eventId}</code>
        </p>
        <div className="sides">
          <Places eventId={eventId} />
          <Arrived eventId={eventId} />
        </div>
      </Page>
    )
  })
