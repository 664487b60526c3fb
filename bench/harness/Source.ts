/**
 * The events that every contestant carries, the same bytes for each: in a Postgres database that each run starts from a
 * copy of, in files that ClickHouse reads, and in a ClickHouse table that a run's result must equal.
 *
 * A row is about 320 bytes as `COPY … TO STDOUT` writes it, of which 200 are the context.
 */
import { createWriteStream } from "node:fs"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as NodeSink from "@effect/platform-node/NodeSink"
import { SqlClient } from "@effect/sql"
import { ClickHouse, Migrations, Postgres } from "clickhouse-outbox"
import { Array, Effect, Stream } from "effect"
import * as Databases from "../databases.ts"
import { Flawed, orError } from "./Flawed.ts"

export interface Source {
  /** The database with `bench.source`. Nobody is connected to it. */
  readonly template: string
  readonly events: number
  /** All rows in one file, and in files of {@link ROWS_PER_FILE}. */
  readonly file: string
  readonly files: ReadonlyArray<string>
  /** What `event_log` must have after a run of the first so many events. */
  readonly expected: (events: number) => Effect.Effect<Contents, Error>
}

export interface Contents {
  readonly rows: number
  readonly distinct: number
  /** A digest of all columns of all rows, in any order. */
  readonly checksum: string
}

/** As many as a batch of the relay has. */
export const ROWS_PER_FILE = 100_000

/** The columns of `event_log`, in the order in which the relay copies them. */
export const COLUMNS = "event_type, event_date_time, environment, event_context, metadata_version, event_id, trace_id"

/** The columns of {@link COLUMNS} as they are in `bench.source`. */
export const SELECTED = `
  event_type,
  (event_date_time AT TIME ZONE 'UTC')::text AS event_date_time,
  environment,
  event_context,
  metadata_version,
  event_id,
  split_part(traceparent, '-', 2) AS trace_id`

/** Strings stay strings, as with the relay, so that every contestant's rows come out the same. */
export const JSON_SETTINGS = {
  input_format_try_infer_datetimes: 0,
  input_format_try_infer_dates: 0,
  input_format_json_read_bools_as_numbers: 0,
  input_format_json_read_bools_as_strings: 0,
  json_type_escape_dots_in_keys: 1
} as const

/** Ids grow with time, as version 7's do. */
const GENERATE = `
  CREATE SCHEMA bench;
  CREATE TABLE bench.source (
    position bigint PRIMARY KEY,
    event_type text NOT NULL,
    event_date_time timestamptz NOT NULL,
    environment text NOT NULL,
    event_context jsonb NOT NULL,
    metadata_version bigint NOT NULL,
    event_id uuid NOT NULL,
    traceparent text NOT NULL
  )`

/** The rows of these positions, with the columns of `bench.source`. */
export const generate = (first: number, last: number): string => `
  SELECT
    position,
    (ARRAY['user_created', 'order_placed', 'order_paid', 'session_started'])[1 + position % 4] AS event_type,
    '2026-01-01 00:00:00+00'::timestamptz + position * interval '1037 microseconds' AS event_date_time,
    'production' AS environment,
    jsonb_build_object(
      'sequence', position,
      'user', jsonb_build_object(
        'id', left(hash, 12),
        'country', (ARRAY['DE', 'FR', 'IN', 'NG', 'NZ', 'US'])[1 + position % 6],
        'plan', (ARRAY['free', 'pro', 'team'])[1 + position % 3]
      ),
      'order', jsonb_build_object('items', 1 + position % 9, 'total', (position % 99991) / 100.0, 'paid', position % 2 = 0),
      'tags', to_jsonb((ARRAY['web', 'mobile', 'partner'])[1 + position % 2 : 2 + position % 2]),
      'session', right(hash, 24)
    ) AS event_context,
    1 + position % 3 AS metadata_version,
    (lpad(to_hex(1767225600000 + position), 12, '0') || '7' || left(hash, 3) || '8' || substr(hash, 4, 15))::uuid AS event_id,
    '00-' || hash || '-' || left(hash, 16) || '-01' AS traceparent
  FROM generate_series(${first}, ${last}) AS position, LATERAL (SELECT md5(position::text) AS hash) AS hashed`

export const make = (servers: Databases.Servers, events: number) =>
  Effect.gen(function* () {
    const template = "bench_source"
    const variables = yield* Databases.create(servers, template)
    const directory = yield* Effect.acquireRelease(
      Effect.promise(() => mkdtemp(join(tmpdir(), "clickhouse-outbox-bench-"))),
      (directory) => Effect.promise(() => rm(directory, { recursive: true, force: true }))
    )
    const connect = Effect.provide(Databases.connect(variables))
    const starts = Array.makeBy(Math.ceil(events / ROWS_PER_FILE), (index) => index * ROWS_PER_FILE)
    const file = join(directory, "all.tsv")
    const files = starts.map((start) => join(directory, `${start}.tsv`))
    yield* Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql.unsafe(GENERATE)
      yield* sql.unsafe(`INSERT INTO bench.source ${generate(1, events)}`)
      yield* sql.unsafe("VACUUM (ANALYZE) bench.source")
      yield* copyTo(file, 0, events)
      yield* Effect.forEach(starts, (start, index) => copyTo(files[index] ?? "", start, start + ROWS_PER_FILE))
      yield* Migrations.clickHouse({ table: "event_log" })
      yield* (yield* ClickHouse.ClickHouse).command(insertFile(file))
    }).pipe(connect)
    const expected = yield* Effect.cachedFunction((upTo: number) =>
      contents(`event_context.sequence.:Int64 <= ${upTo}`).pipe(
        Effect.filterOrFail(
          ({ distinct, rows }) => rows === upTo && distinct === upTo,
          ({ rows }) => new Flawed({ run: "source", what: `${rows} rows instead of ${upTo}` })
        ),
        connect,
        orError
      )
    )
    const source: Source = { template, events, file, files, expected }
    return source
  }).pipe(orError)

const copyTo = (path: string, after: number, last: number) =>
  Effect.flatMap(Postgres.Postgres, (postgres) =>
    postgres
      .copyOut({
        query: `SELECT ${SELECTED} FROM bench.source WHERE position > ${after} AND position <= ${last} ORDER BY position`,
        settings: "SET LOCAL client_encoding = 'UTF8'",
        onComplete: () => Effect.void
      })
      .pipe(
        Stream.run(
          NodeSink.fromWritable(
            () => createWriteStream(path),
            (cause) => new Error(String(cause))
          )
        )
      )
  )

/** ClickHouse reads the file itself. */
export const insertFile = (file: string): string => `
  INSERT INTO event_log (${COLUMNS})
  SELECT *
  FROM file(
    '${file}', 'TabSeparated',
    'event_type String, event_date_time DateTime64(6, ''UTC''), environment String, event_context String,
     metadata_version UInt64, event_id UUID, trace_id String'
  )
  SETTINGS ${Object.entries(JSON_SETTINGS)
    .map(([name, value]) => `${name} = ${value}`)
    .join(", ")}`

/** What `event_log` has, of the rows that match. */
export const contents = (where = "true") =>
  Effect.flatMap(ClickHouse.ClickHouse, (clickHouse) =>
    clickHouse.query(`
      SELECT
        toUInt32(count()),
        toUInt32(uniqExact(event_id)),
        toString(sum(cityHash64(
          event_type, event_date_time, environment, toString(event_context), metadata_version, event_id, trace_id
        )))
      FROM event_log
      WHERE ${where}`)
  ).pipe(
    Effect.map(
      ([row]): Contents => ({ rows: Number(row?.[0]), distinct: Number(row?.[1]), checksum: String(row?.[2]) })
    )
  )
