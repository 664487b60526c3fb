-- The five columns event_type … metadata_version are the contract with readers; event_id makes an event recognisable
-- and trace_id leads from a row to its trace.
--   DateTime64, because DateTime drops fractions and clamps to 1970 … 2106.
--   max_dynamic_paths bounds the memory of an insert whose contexts have thousands of different keys.
--   The de-duplication window is 0 by default, which would be no de-duplication at all.
CREATE TABLE IF NOT EXISTS {table:Identifier} (
  event_type LowCardinality(String),
  event_date_time DateTime64(6, 'UTC'),
  environment LowCardinality(String),
  event_context JSON(max_dynamic_paths = 256),
  metadata_version UInt64,
  event_id UUID,
  trace_id String
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(event_date_time)
ORDER BY (event_type, event_date_time, event_id)
SETTINGS non_replicated_deduplication_window = 10000
