/** How the rows of a batch are read. */
import type { Batch } from "../Batch.ts"
import type { EventId } from "../Event.ts"
import { from, type Range } from "./keys.ts"

/** The plan must not depend on statistics of a table that comes and goes. */
export const PLAN_SETTINGS = `
  SET LOCAL enable_seqscan = off;
  SET LOCAL enable_bitmapscan = off;
  SET LOCAL enable_sort = off;
  SET LOCAL jit = off;
  SET LOCAL max_parallel_workers_per_gather = 0`

interface Narrowed {
  /** A WHERE clause. */
  readonly filter?: string
  /** Only so many, from the first. */
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
  const range = (events: Range) => `
    (
      SELECT *
      FROM outbox.${events}('${batch.fromSnapshot}', '${batch.toSnapshot}')
      WHERE ${from(events, batch.fromSnapshot, ">=", first)}
        AND (tx_id, id) <= ('${batch.lastTxId}', ${batch.lastId})
        AND slot IN (${batch.slots.join(", ")})
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

/** Those of the events. The list is written out, so that Postgres looks ids up in a hash table. */
export const only = (eventIds: ReadonlyArray<EventId>): Narrowed => ({
  filter: `WHERE event_id = ANY ('{${eventIds.join(",")}}')`
})
