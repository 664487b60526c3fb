/** How a batch goes into the table. */
import { randomUUID } from "node:crypto"
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Stream from "effect/Stream"
import type { ClickHouse, Settings } from "../ClickHouse.ts"
import type * as Config from "../Config.ts"
import type { SinkError } from "../SinkError.ts"

const COLUMNS = "event_type, event_date_time, environment, event_context, metadata_version, event_id, trace_id"

/**
 * The same for every insert: the token only works if a repeated batch is cut into the same blocks, so it is cut into
 * one. https://clickhouse.com/docs/guides/developer/deduplicating-inserts-on-retries
 */
const INSERT_SETTINGS: Settings = {
  async_insert: 0,
  insert_deduplicate: 1,
  // A repeat reaches the tables of materialized views too; those that have a window drop it likewise.
  deduplicate_blocks_in_dependent_materialized_views: 1,
  // A backfill of a hundred months and more is one block all the same.
  max_partitions_per_insert_block: 0,
  max_insert_block_size: "1000000000",
  min_insert_block_size_rows: "1000000000",
  min_insert_block_size_bytes: "1000000000000",
  // Strings inside the JSON that look like dates stay the strings they are.
  input_format_try_infer_datetimes: 0,
  input_format_try_infer_dates: 0,
  // So do booleans beside numbers or strings in an array.
  input_format_json_read_bools_as_numbers: 0,
  input_format_json_read_bools_as_strings: 0,
  // {"a.b": 1} and {"a": {"b": 1}} stay different.
  json_type_escape_dots_in_keys: 1,
  // An insert is listed as running only once so many bytes of its body are there: see isInserting.
  max_query_size: 1_000,
  // A refusal names the first row that is bad: of rows that are parsed in parallel it may be a later one.
  input_format_parallel_parsing: 0,
  // The answer is the final one.
  wait_end_of_query: 1
}

/** In one block under the token: whole or not at all. */
export const insertInto =
  (
    clickHouse: typeof ClickHouse.Service,
    { requestTimeout, table }: Pick<Config.ClickHouse, "table" | "requestTimeout">
  ) =>
  <E>(token: string, rows: Stream.Stream<Uint8Array, E>): Effect.Effect<void, SinkError | E> =>
    clickHouse.insert({
      statement: `INSERT INTO {table:Identifier} (${COLUMNS}) FORMAT TabSeparated`,
      parameters: { table },
      settings: {
        ...INSERT_SETTINGS,
        insert_deduplication_token: token,
        // Nothing of an attempt that was given up goes on for long.
        max_execution_time: Math.ceil(Duration.toSeconds(requestTimeout))
      },
      queryId: `${token}/${randomUUID()}`,
      rows
    })
