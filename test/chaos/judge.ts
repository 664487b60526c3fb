/** Compares the writers' own journal with what became of their events. It asks no relay, and trusts no counter. */
import { type Content, digest, type WrittenEvent, type WrittenTransaction } from "./journal.ts"

export interface Violation {
  readonly what: "missing" | "doubled" | "changed" | "delivered though rolled back" | "other"
  readonly eventId?: string
  readonly detail: string
}

/** Where an event that was committed has to be, once everything is dealt with. */
export interface Expected {
  readonly digest: string
  /** `failure`: in an open failure. `nowhere`: an operator has discarded it. */
  readonly place: "table" | "failure" | "nowhere"
  readonly marker: string
}

export interface Committed {
  readonly events: Map<string, Expected>
  /** Those that were rolled back. */
  readonly never: Set<string>
}

/** @param markers of all transactions that Postgres has committed */
export const settle = (
  journal: ReadonlyArray<WrittenTransaction>,
  markers: ReadonlySet<string>
): Committed & { readonly violations: ReadonlyArray<Violation> } => {
  const violations: Array<Violation> = []
  const events = new Map<string, Expected>()
  const never = new Set<string>()
  const expect = (event: WrittenEvent, marker: string) =>
    events.set(event.eventId, { digest: digest(event), place: event.isRefused ? "failure" : "table", marker })
  for (const { events: kept, marker, outcome, undone } of journal) {
    const committed = markers.has(marker)
    if (outcome !== "unknown" && committed !== (outcome === "committed")) {
      violations.push({ what: "other", detail: `transaction ${marker} was told that it was ${outcome}, and was not` })
    }
    for (const event of kept) committed ? expect(event, marker) : never.add(event.eventId)
    for (const event of undone) never.add(event.eventId)
  }
  return { events, never, violations }
}

/** A row of `event_log`. */
export interface Row extends Content {
  readonly eventId: string
}

/** An event of an open failure. */
export interface Failed {
  readonly eventId: string
  readonly parked: boolean
}

const count = (ids: Iterable<string>): ReadonlyMap<string, number> => {
  const counts = new Map<string, number>()
  for (const id of ids) counts.set(id, (counts.get(id) ?? 0) + 1)
  return counts
}

/** Good events that were parked together with bad ones count as failed: an operator has yet to replay them. */
export const judge = (
  { events, never }: Committed,
  rows: ReadonlyArray<Row>,
  failed: ReadonlyArray<Failed>
): ReadonlyArray<Violation> => {
  const violations: Array<Violation> = []
  const delivered = count(rows.map(({ eventId }) => eventId))
  const failures = count(failed.map(({ eventId }) => eventId))
  const parked = new Set(failed.filter((event) => event.parked).map(({ eventId }) => eventId))
  const differ = (eventId: string, what: Violation["what"], detail: string) =>
    violations.push({ what, eventId, detail })

  for (const row of rows) {
    const expected = events.get(row.eventId)
    if (expected !== undefined && expected.digest !== digest(row)) {
      differ(row.eventId, "changed", `ClickHouse has ${JSON.stringify(row).slice(0, 500)}`)
    }
  }
  for (const [eventId, times] of delivered) {
    if (times > 1) differ(eventId, "doubled", `ClickHouse has ${times} rows of it`)
    if (never.has(eventId)) differ(eventId, "delivered though rolled back", "ClickHouse has it")
    else if (!events.has(eventId)) differ(eventId, "other", "ClickHouse has it, and nobody has published it")
  }
  for (const eventId of failures.keys()) {
    if (never.has(eventId)) differ(eventId, "delivered though rolled back", "it is in a failure")
    else if (!events.has(eventId)) differ(eventId, "other", "it is in a failure, and nobody has published it")
  }
  for (const [eventId, { place }] of events) {
    const inTable = delivered.get(eventId) ?? 0
    const inFailures = failures.get(eventId) ?? 0
    const waits = place === "failure" || (place === "table" && parked.has(eventId))
    const at = `it is in ClickHouse ${inTable} times and in ${inFailures} open failures`
    if (waits && inTable > 0) differ(eventId, "other", `it should wait in a failure: ${at}`)
    if (inFailures > 1 || (inFailures === 1 && !waits)) differ(eventId, "doubled", at)
    if (waits ? inFailures === 0 : place === "table" && inTable === 0) differ(eventId, "missing", at)
    if (place === "nowhere" && inTable > 0) differ(eventId, "other", `it was discarded: ${at}`)
  }
  return violations
}
