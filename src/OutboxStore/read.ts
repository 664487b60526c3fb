/** A sealed batch as the bytes ClickHouse takes: `COPY … TO STDOUT` text is valid TabSeparated. */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { Batch, Repair } from "../Batch.ts"
import { EventId } from "../Event.ts"
import type { Postgres } from "../Postgres.ts"
import { from, type Range } from "./keys.ts"
import { BatchChanged } from "./model.ts"

/** In the order of the sink's columns. */
const COLUMNS = `
  event_type,
  event_date_time AT TIME ZONE 'UTC',
  environment,
  event_context,
  metadata_version,
  event_id,
  coalesce(split_part(traceparent, '-', 2), '')`

/** The plan must not depend on statistics of a table that comes and goes. */
export const PLAN_SETTINGS = `
  SET LOCAL enable_seqscan = off;
  SET LOCAL enable_bitmapscan = off;
  SET LOCAL enable_sort = off;
  SET LOCAL jit = off;
  SET LOCAL max_parallel_workers_per_gather = 0`

/** The bytes must not depend on the session's defaults. A batch takes as long as ClickHouse takes it. */
const SETTINGS = `
  SET LOCAL statement_timeout = 0;
  SET LOCAL DateStyle = 'ISO';
  SET LOCAL client_encoding = 'UTF8';
  ${PLAN_SETTINGS}`

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

const expecting = (batch: Batch, expected: number) => (actual: number) =>
  actual === expected ? Effect.void : new BatchChanged({ batchId: batch.id, expected, actual })

export const read =
  (postgres: typeof Postgres.Service) =>
  (batch: Batch): Stream.Stream<Uint8Array, SqlError | BatchChanged> =>
    postgres.copyOut({
      query: rows(batch, COLUMNS),
      settings: SETTINGS,
      onComplete: expecting(batch, batch.eventCount)
    })

export const readRepair =
  (postgres: typeof Postgres.Service) =>
  (batch: Batch, repair: Repair): Stream.Stream<Uint8Array, SqlError | BatchChanged> =>
    postgres.copyOut({
      query: rows(batch, COLUMNS, only(repair.eventIds)),
      settings: SETTINGS,
      onComplete: expecting(batch, repair.eventIds.length)
    })

export const eventIds =
  (postgres: typeof Postgres.Service) =>
  (batch: Batch): Effect.Effect<ReadonlyArray<EventId>, SqlError | BatchChanged> =>
    postgres
      .copyOut({
        query: rows(batch, "event_id"),
        settings: SETTINGS,
        onComplete: expecting(batch, batch.eventCount)
      })
      .pipe(collectIds)

/** Not those that were published again, which are another batch's now. */
export const retainedEventIds =
  (postgres: typeof Postgres.Service) =>
  (batch: Batch): Effect.Effect<ReadonlyArray<EventId>, SqlError> =>
    postgres
      .copyOut({
        query: rows(batch, "event_id", {
          filter: `WHERE event_id NOT IN (
            SELECT unnest(republished_event_ids) FROM outbox.batch WHERE batch.id = ${batch.id}
          )`
        }),
        settings: SETTINGS,
        onComplete: () => Effect.void
      })
      .pipe(collectIds)

/** Of a stream that breaks `splitLines` gives the beginning of a line before the failure: an id is read after the end. */
const collectIds = <E>(lines: Stream.Stream<Uint8Array, E>): Effect.Effect<ReadonlyArray<EventId>, E> =>
  lines.pipe(
    Stream.decodeText(),
    Stream.splitLines,
    Stream.runCollect,
    Effect.map((ids) => Array.from(ids, (id) => EventId.make(id)))
  )
