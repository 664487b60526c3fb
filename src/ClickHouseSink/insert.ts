/** How a batch goes into the table. */
import { randomUUID } from "node:crypto"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Stream from "effect/Stream"
import type { ClickHouse, Settings } from "../ClickHouse.ts"
import type * as Config from "../Config.ts"
import type { SinkError } from "../SinkError.ts"
import type { TableState } from "../schema/eventTable.ts"

/** Rows that go into the table in one block, or not at all. */
export interface Insertion<E> {
  /** In TabSeparated. */
  readonly rows: Stream.Stream<Uint8Array, E>
  /** How many rows there are. */
  readonly eventCount: number
  /** What the table knows a repeat of it by. */
  readonly token: string
}

/**
 * What ClickHouse says to have taken of an insertion: each of its rows, another number, or nothing that says so. A number
 * with what materialized views wrote says nothing: that may make up for rows that were skipped. Anything but `all` is a
 * doubt, though ClickHouse has answered yes.
 */
export type Taken = "all" | "other" | "unsaid" | "with-views"

const COLUMNS = "event_type, event_date_time, environment, event_context, metadata_version, event_id, trace_id"

/**
 * The same for every insert: the token only works if a repeated batch is divided into the same blocks, so it becomes
 * one. https://clickhouse.com/docs/guides/developer/deduplicating-inserts-on-retries
 */
const INSERT_SETTINGS: Settings = {
  async_insert: 0,
  insert_deduplicate: 1,
  // A repeat reaches the tables of materialized views too; those that have a window drop it likewise.
  deduplicate_blocks_in_dependent_materialized_views: 1,
  // One thread makes one block. Several would make as many, each in part of the rows.
  max_insert_threads: 1,
  // A backfill of a hundred months and more is one block all the same.
  max_partitions_per_insert_block: 0,
  max_insert_block_size: "1000000000",
  min_insert_block_size_rows: "1000000000",
  min_insert_block_size_bytes: "1000000000000",
  // Every row that was sent, as it was sent. A bad one refuses all: none is skipped.
  input_format_allow_errors_num: 0,
  input_format_allow_errors_ratio: 0,
  input_format_tsv_skip_first_lines: 0,
  input_format_tsv_allow_variable_number_of_columns: 0,
  input_format_tsv_crlf_end_of_line: 0,
  input_format_tsv_enum_as_number: 0,
  // What is empty is empty, and not the column's default.
  input_format_tsv_empty_as_default: 0,
  format_tsv_null_representation: "\\N",
  input_format_null_as_default: 1,
  date_time_input_format: "best_effort",
  date_time_overflow_behavior: "ignore",
  // Strings inside the JSON that look like dates or numbers stay the strings they are.
  input_format_try_infer_datetimes: 0,
  input_format_try_infer_dates: 0,
  input_format_json_try_infer_numbers_from_strings: 0,
  // Values of an array keep their types beside each other.
  input_format_json_infer_array_of_dynamic_from_array_of_different_types: 1,
  input_format_try_infer_variants: 0,
  input_format_json_read_bools_as_numbers: 0,
  input_format_json_read_bools_as_strings: 0,
  // {"a.b": 1} and {"a": {"b": 1}} stay different.
  json_type_escape_dots_in_keys: 1,
  // The other parser takes integers beyond 64 bits, as floats.
  allow_simdjson: 1,
  // An insert is listed as running only once so many bytes of its body are there: see isInserting.
  max_query_size: 1_000,
  // A refusal names the first row that is bad: of rows that are parsed in parallel it may be a later one.
  input_format_parallel_parsing: 0
}

/**
 * In one block under the token: whole or not at all. `all` if ClickHouse says that it has taken each of the rows, which
 * it does of a repeat too.
 */
export const insertInto = <E>(
  clickHouse: typeof ClickHouse.Service,
  { requestTimeout, table }: Pick<Config.ClickHouse, "table" | "requestTimeout">,
  { changed, hasViews }: Pick<TableState, "changed" | "hasViews">,
  { eventCount, rows, token }: Insertion<E>
): Effect.Effect<Taken, SinkError | E> =>
  clickHouse
    .insert({
      statement: `INSERT INTO {table:Identifier} (${COLUMNS}) FORMAT TabSeparated`,
      parameters: { table },
      settings: {
        ...changed,
        ...INSERT_SETTINGS,
        insert_deduplication_token: token,
        // Nothing of an attempt that was given up goes on for long.
        max_execution_time: Math.ceil(Duration.toSeconds(requestTimeout))
      },
      queryId: `${token}/${randomUUID()}`,
      rows
    })
    .pipe(
      Effect.map((written): Taken => {
        if (Option.isNone(written)) return "unsaid"
        if (hasViews) return "with-views"
        return written.value === eventCount ? "all" : "other"
      })
    )
