/** Rows of batches as a stream: `COPY … TO STDOUT` text is valid TabSeparated. */
import type { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { Batch } from "../Batch.ts"
import { EventId } from "../Event.ts"
import { SEARCH_PATH } from "../internal/meaning.ts"
import type { Postgres } from "../Postgres.ts"
import { type Narrowed, PLAN_SETTINGS, rows } from "./events.ts"

/** In the order of the sink's columns. */
export const SINK_COLUMNS = `
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

/** What a query of `rows` prints. `onComplete` gets the number of rows and may still fail the stream. */
export const copyRows = <E = never>(
  postgres: typeof Postgres.Service,
  query: string,
  onComplete: (rowCount: number) => Effect.Effect<void, E> = () => Effect.void
): Stream.Stream<Uint8Array, SqlError | E> => postgres.copyOut({ query, settings: SETTINGS, onComplete })

/** Not those that were published again, which are another batch's now. */
export const retained = (batch: Batch): Narrowed => ({
  filter: `WHERE event_id NOT IN (SELECT unnest(republished_event_ids) FROM outbox.batch WHERE batch.id = ${batch.id})`
})

/** How many batches one statement reads. Each is a query of its own in it, which has to be planned. */
const BATCHES_PER_STATEMENT = 50

/**
 * The events of batches that the outbox still has, as pairs of a batch's id and an event's, and with `contents` what the
 * sink was sent of the event: fields of text as `COPY` writes them, without their escapes.
 */
export const retainedOf =
  (postgres: typeof Postgres.Service) =>
  (
    batches: ReadonlyArray<Batch>,
    { contents }: { readonly contents: boolean }
  ): Stream.Stream<ReadonlyArray<string>, SqlError> =>
    Stream.fromIterable(Arr.chunksOf(batches, BATCHES_PER_STATEMENT)).pipe(
      Stream.flatMap((some) => {
        const columns = contents ? `event_id AS retained_id, ${SINK_COLUMNS}` : "event_id"
        const each = some.map((batch) => `(${rows(batch, `${batch.id}, ${columns}`, retained(batch))})`)
        return copyRows(postgres, each.join(" UNION ALL "))
      }),
      Stream.decodeText(),
      Stream.splitLines,
      Stream.map((line) => line.split("\t").map(withoutEscapes))
    )

/** https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS. None of the columns is NULL. */
const withoutEscapes = (field: string): string =>
  field.includes("\\") ? field.replaceAll(/\\(.)/g, (_, letter: string) => ESCAPES[letter] ?? letter) : field

const ESCAPES: Readonly<Record<string, string>> = { b: "\b", f: "\f", n: "\n", r: "\r", t: "\t", v: "\v" }

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
