/** An event's JSON as text: JavaScript's numbers would change the very ones that ClickHouse refused. */
import type { Actor, EventId, FailureId } from "clickhouse-outbox/operator-api"
import * as Effect from "effect/Effect"
import { fromRawMembers, prettyJson, rawMembers } from "../../../src/internal/jsonText.ts"
import { type Answer, asText, type Client, type WithText } from "./client.ts"

type FailedEvent = Answer<Client["failures"]["event"]>

export interface EventText {
  readonly event: FailedEvent
  /** Indented for reading. */
  readonly context: string
  readonly version: string
}

export const get = (id: FailureId, eventId: EventId) =>
  Effect.map(
    asText((client) => client.failures.event({ path: { id, event_id: eventId } })),
    withText
  )

/** What is to change. */
export interface Correction {
  readonly event_context?: string
  readonly event_type?: string
  readonly event_date_time?: string
  readonly metadata_version?: string
}

/** Members that are JSON text already. The others are encoded here. */
const RAW: ReadonlySet<string> = new Set(["event_context", "metadata_version"])

export const correct = (
  id: FailureId,
  eventId: EventId,
  headers: { readonly actor?: Actor },
  correction: Correction
) => {
  const members = Object.entries(correction).map(
    ([name, value]) => [name, RAW.has(name) ? value : JSON.stringify(value)] as const
  )
  return Effect.map(
    asText(
      (client) => client.failures.correct({ path: { id, event_id: eventId }, headers, payload: {} }),
      fromRawMembers(members)
    ),
    withText
  )
}

const withText = ({ answer: event, text }: WithText<FailedEvent>): EventText => {
  const members = rawMembers(text)
  return {
    event,
    context: prettyJson(members.get("event_context") ?? "{}"),
    version: members.get("metadata_version") ?? "0"
  }
}
