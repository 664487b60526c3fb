-- The five columns event_type … metadata_version are the contract with readers; event_id makes an event recognisable
-- and trace_id leads from a row to its trace.
--   DateTime64, because DateTime drops fractions and clamps to 1970 … 2106.
--   max_dynamic_paths bounds the memory of an insert whose contexts have thousands of different keys.
--   The de-duplication window of a plain table is 0 by default, which would be no de-duplication at all. That of a
--   replicated one forgets after a time too, an hour by default: a week is enough for a larger number, too. Either
--   kind of table accepts the other's settings.
--   What differs in a cluster, src/Migrations.ts fills in.
CREATE TABLE IF NOT EXISTS {table:Identifier} $ON_CLUSTER (
  event_type LowCardinality(String),
  event_date_time DateTime64(6, 'UTC'),
  environment LowCardinality(String),
  event_context JSON(max_dynamic_paths = 256),
  metadata_version UInt64,
  event_id UUID,
  trace_id String
)
ENGINE = $ENGINE
PARTITION BY toYYYYMM(event_date_time)
ORDER BY (event_type, event_date_time, event_id)
SETTINGS
  non_replicated_deduplication_window = 10000,
  replicated_deduplication_window = 10000,
  replicated_deduplication_window_seconds = 604800
