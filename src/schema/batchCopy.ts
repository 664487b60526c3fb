/** Rows of a batch as a stream: `COPY … TO STDOUT` text is valid TabSeparated. */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { Batch } from "../Batch.ts"
import { EventId } from "../Event.ts"
import type { Postgres } from "../Postgres.ts"
import { PLAN_SETTINGS, rows } from "./events.ts"

/** The bytes must not depend on the session's defaults. A batch takes as long as ClickHouse takes it. */
const SETTINGS = `
  SET LOCAL statement_timeout = 0;
  SET LOCAL DateStyle = 'ISO';
  SET LOCAL client_encoding = 'UTF8';
  ${PLAN_SETTINGS}`

/** What a query of `rows` prints. `onComplete` gets the number of rows and may still fail the stream. */
export const copyRows = <E = never>(
  postgres: typeof Postgres.Service,
  query: string,
  onComplete: (rowCount: number) => Effect.Effect<void, E> = () => Effect.void
): Stream.Stream<Uint8Array, SqlError | E> => postgres.copyOut({ query, settings: SETTINGS, onComplete })

/**
 * Of a stream that breaks `splitLines` gives the beginning of a line before the failure: an id is read after the end.
 */
export const collectIds = <E>(lines: Stream.Stream<Uint8Array, E>): Effect.Effect<ReadonlyArray<EventId>, E> =>
  lines.pipe(
    Stream.decodeText(),
    Stream.splitLines,
    Stream.runCollect,
    Effect.map((ids) => Array.from(ids, (id) => EventId.make(id)))
  )

/** Those of a batch's events that the outbox still has. Not those that were published again: they are another batch's. */
export const retainedEventIds = (
  postgres: typeof Postgres.Service,
  batch: Batch
): Effect.Effect<ReadonlyArray<EventId>, SqlError> => {
  const filter = `WHERE event_id NOT IN (
    SELECT unnest(republished_event_ids) FROM outbox.batch WHERE batch.id = ${batch.id}
  )`
  return collectIds(copyRows(postgres, rows(batch, "event_id", { filter })))
}
