/** What the writers of a round know of their own transactions. Nothing in it comes from the outbox. */
import { createHash } from "node:crypto"
import type * as Event from "../../src/Event.ts"

export interface WrittenEvent {
  readonly eventId: string
  readonly eventType: string
  /** As ClickHouse prints it, to the microsecond. */
  readonly eventDateTime: string
  readonly environment: string
  readonly metadataVersion: number
  readonly context: Event.JsonObject
  /** ClickHouse will not take it. */
  readonly isRefused: boolean
}

export interface WrittenTransaction {
  /** Of the row that the same transaction wrote into a table of the application. */
  readonly marker: string
  /** Those of savepoints that were released, or of none. */
  readonly events: ReadonlyArray<WrittenEvent>
  /** Those of savepoints that were rolled back. */
  readonly undone: ReadonlyArray<WrittenEvent>
  /** `unknown`: the connection was lost while it committed. */
  readonly outcome: "committed" | "rolled back" | "unknown"
}

/** Keys in one order, whoever wrote them. */
const canonical = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(canonical)
  if (typeof value !== "object" || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, inner]) => [key, canonical(inner)])
  )
}

export interface Content {
  readonly eventType: string
  readonly eventDateTime: string
  readonly environment: string
  readonly metadataVersion: number
  readonly context: unknown
}

/** The same for the same content. */
export const digest = ({ context, environment, eventDateTime, eventType, metadataVersion }: Content): string =>
  createHash("sha1")
    .update(JSON.stringify([eventType, eventDateTime, environment, metadataVersion, canonical(context)]))
    .digest("base64")
