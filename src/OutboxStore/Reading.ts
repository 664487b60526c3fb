/** Reading: a sealed batch as the bytes ClickHouse takes. `COPY … TO STDOUT` text is valid TabSeparated. */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { Batch, Repair } from "../Batch.ts"
import { EventId } from "../Event.ts"
import { type Postgres, SEARCH_PATH } from "../Postgres.ts"
import { PLAN_SETTINGS, rows, withEventIds } from "../schema/events.ts"
import { BatchChanged } from "./model.ts"

/** In the order of the sink's columns. */
const SINK_COLUMNS = `
  event_type,
  event_date_time AT TIME ZONE 'UTC',
  environment,
  event_context,
  metadata_version,
  event_id,
  coalesce(split_part(traceparent, '-', 2), '')`

/** The bytes must not depend on the session's defaults. */
const SETTINGS = `
  SET LOCAL search_path = ${SEARCH_PATH};
  SET LOCAL client_encoding = 'UTF8';
  ${PLAN_SETTINGS}`

export const make = (postgres: typeof Postgres.Service) => {
  const copy = <E = never>(query: string, onComplete: (rowCount: number) => Effect.Effect<void, E>) =>
    postgres.copyOut({ query, settings: SETTINGS, onComplete })

  return {
    read: (batch: Batch): Stream.Stream<Uint8Array, SqlError | BatchChanged> =>
      copy(rows(batch, SINK_COLUMNS), expecting(batch, batch.eventCount)),

    readRepair: (batch: Batch, { eventIds }: Repair): Stream.Stream<Uint8Array, SqlError | BatchChanged> =>
      copy(rows(batch, SINK_COLUMNS, withEventIds(eventIds)), expecting(batch, eventIds.length)),

    eventIds: (batch: Batch): Effect.Effect<ReadonlyArray<EventId>, SqlError | BatchChanged> =>
      collectIds(copy(rows(batch, "event_id"), expecting(batch, batch.eventCount))),

    /** Not those that were published again, which are another batch's now. */
    retainedEventIds: (batch: Batch): Effect.Effect<ReadonlyArray<EventId>, SqlError> => {
      const filter = `WHERE event_id NOT IN (
        SELECT unnest(republished_event_ids) FROM outbox.batch WHERE batch.id = ${batch.id}
      )`
      return collectIds(copy(rows(batch, "event_id", { filter }), () => Effect.void))
    }
  }
}

const expecting = (batch: Batch, expected: number) => (actual: number) =>
  actual === expected ? Effect.void : new BatchChanged({ batchId: batch.id, expected, actual })

/**
 * Of a stream that breaks `splitLines` gives the beginning of a line before the failure: an id is read after the end.
 */
const collectIds = <E>(lines: Stream.Stream<Uint8Array, E>): Effect.Effect<ReadonlyArray<EventId>, E> =>
  lines.pipe(
    Stream.decodeText(),
    Stream.splitLines,
    Stream.runCollect,
    Effect.map((ids) => Array.from(ids, (id) => EventId.make(id)))
  )
