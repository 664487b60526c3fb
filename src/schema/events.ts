/**
 * How rows of `outbox.event` are read: from a key on, in one of a window's two index ranges, and those of a batch.
 *
 * Of several lower bounds an index scan begins at a row comparison, if there is one, and not at the highest. So a
 * comparison that does not narrow its range is left out: otherwise a scan would walk through whatever the outbox keeps.
 */
import * as Schema from "effect/Schema"
import type { Batch } from "../Batch.ts"
import type { EventId } from "../Event.ts"

/** What its publisher, or Postgres on its behalf, says of an event. Published again, it says the same. */
export const CONTENT_COLUMNS = `
  event_id, event_type, event_date_time, environment, event_context, context_bytes, metadata_version, traceparent`

/** The same, and when it was published. */
export const EVENT_COLUMNS = `${CONTENT_COLUMNS}, published_at`

/** All columns: the same, and in which transaction, place and slot it is. */
export const ROW_COLUMNS = `tx_id, id, slot, ${EVENT_COLUMNS}`

/** The plan must not depend on statistics of a table that comes and goes. */
export const PLAN_SETTINGS = `
  SET LOCAL enable_indexscan = on;
  SET LOCAL enable_indexonlyscan = on;
  SET LOCAL enable_seqscan = off;
  SET LOCAL enable_bitmapscan = off;
  SET LOCAL enable_sort = off;
  SET LOCAL jit = off;
  SET LOCAL max_parallel_workers_per_gather = 0`

/** A row of `outbox.event`: which transaction, and which of its rows. */
export const Key = Schema.Struct({ txId: Schema.String, id: Schema.String })
export type Key = typeof Key.Type

/** The index ranges of a window; the migration explains them. */
export type Range = "window_late_events" | "window_new_events"

/**
 * The condition that rows of a range come behind the key, or with `orAt` not before it; true where all of them do.
 * Every key of the range of new events is of a transaction that is not below the snapshot's xmax.
 */
export const afterKey = (
  range: Range,
  {
    fromSnapshot,
    key,
    orAt = false
  }: {
    /** The snapshot that the window begins with, in Postgres' notation `xmin:xmax:xip`. */
    readonly fromSnapshot: string
    readonly key: Key | null
    readonly orAt?: boolean
  }
): string => {
  const [, xmax = "0"] = fromSnapshot.split(":")
  const narrows = key !== null && (range === "window_late_events" || BigInt(key.txId) >= BigInt(xmax))
  return narrows ? `(tx_id, id) ${orAt ? ">=" : ">"} ('${key.txId}'::xid8, ${key.id}::bigint)` : "true"
}

export interface Narrowed {
  /** A WHERE clause. */
  readonly filter?: string
  /** No more than this many, from the first on. */
  readonly limit?: number
}

/**
 * The batch's rows in the order of their keys. Its definition is inlined, as COPY takes no parameters; {@link Batch}
 * admits nothing but digits, colons and commas there. The inner limits let both index ranges be merged without a sort,
 * and are one more than the batch holds so that a row too many is noticed. Slots that it has no rows in are not even
 * locked, so that they can be emptied meanwhile.
 */
export const rows = (batch: Batch, columns: string, { filter = "", limit = batch.eventCount + 1 }: Narrowed = {}) => {
  const first = { txId: batch.firstTxId, id: batch.firstId }
  // Types are text by anybody: they are read where they are, and never written out here.
  const ofTypes = batch.byType
    ? `AND event_type::text IN (SELECT unnest(event_types) FROM outbox.batch WHERE id = ${batch.id})`
    : ""
  const range = (events: Range) => `
    (
      SELECT *
      FROM outbox.${events}('${batch.fromSnapshot}', '${batch.toSnapshot}')
      WHERE ${afterKey(events, { fromSnapshot: batch.fromSnapshot, key: first, orAt: true })}
        AND (tx_id, id) <= ('${batch.lastTxId}', ${batch.lastId})
        AND slot IN (${batch.slots.join(", ")})
        ${ofTypes}
      ORDER BY tx_id, id
      LIMIT ${limit}
    )`
  return `
    SELECT ${columns}
    FROM (${range("window_late_events")} UNION ALL ${range("window_new_events")}) AS events
    ${filter}
    ORDER BY tx_id, id
    LIMIT ${limit}`
}

/** Narrows to these events. The list is written out, so that Postgres looks ids up in a hash table. */
export const withEventIds = (eventIds: ReadonlyArray<EventId>): Narrowed => ({
  filter: `WHERE event_id = ANY ('{${eventIds.join(",")}}')`
})
