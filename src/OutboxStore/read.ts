/** A sealed batch as the bytes ClickHouse takes: `COPY … TO STDOUT` text is valid TabSeparated. */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { Batch, Repair } from "../Batch.ts"
import { EventId } from "../Event.ts"
import type { Postgres } from "../Postgres.ts"
import { only, PLAN_SETTINGS, rows } from "../schema/rows.ts"
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

/** The bytes must not depend on the session's defaults. A batch takes as long as ClickHouse takes it. */
const SETTINGS = `
  SET LOCAL statement_timeout = 0;
  SET LOCAL DateStyle = 'ISO';
  SET LOCAL client_encoding = 'UTF8';
  ${PLAN_SETTINGS}`

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
