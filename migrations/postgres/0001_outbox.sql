-- The outbox: events as their transactions wrote them, and the manifest of the batches they were sealed into.
-- The reasons behind this schema are in docs/architecture.md.

-- Publishing is a part of everybody's transactions. What is computed here for each event is such that Postgres inlines it
-- into the INSERT: a function in SQL that it has to call takes 5 us, and 13 before version 18, where a plain row takes 10.

-- Where new rows go. A sequence, because reading one takes no snapshot and no lock that anybody waits for, and moving on is
-- a setval.
CREATE SEQUENCE outbox.event_slot AS smallint MINVALUE 0 MAXVALUE 3 START 0;

-- pg_sequence_last_value, below, is NULL before it.
SELECT setval('outbox.event_slot', 0);

CREATE FUNCTION outbox.read_slot() RETURNS bigint
LANGUAGE sql STABLE
BEGIN ATOMIC
  SELECT last_value FROM outbox.event_slot;
END;

-- pg_sequence_last_value is NULL also for a role that may not read the sequence, since version 17. The SELECT tells it so.
CREATE FUNCTION outbox.current_slot() RETURNS smallint
LANGUAGE sql VOLATILE
RETURN coalesce(pg_sequence_last_value('outbox.event_slot'), outbox.read_slot())::smallint;

-- A time-ordered uuid (RFC 9562, version 7): Postgres has its own only since version 18.
DO $$
BEGIN
  IF current_setting('server_version_num')::integer >= 180000 THEN
    CREATE FUNCTION outbox.uuid_v7() RETURNS uuid
    LANGUAGE sql VOLATILE
    RETURN uuidv7();
  ELSE
    CREATE FUNCTION outbox.uuid_v7() RETURNS uuid
    LANGUAGE sql VOLATILE
    RETURN encode(
      set_bit(
        set_bit(
          overlay(
            uuid_send(gen_random_uuid())
            PLACING substring(int8send(floor(date_part('epoch', clock_timestamp()) * 1000)::bigint) FROM 3)
            FROM 1 FOR 6
          ),
          52, 1
        ),
        53, 1
      ),
      'hex'
    )::uuid;
  END IF;
END
$$;

-- The environment of events that name none.
CREATE FUNCTION outbox.default_environment() RETURNS text
LANGUAGE sql STABLE
RETURN coalesce(nullif(current_setting('outbox.environment', true), ''), 'production');

-- What ClickHouse would mangle or refuse fails here, while the application can still be told. These are domains and not
-- checks of the table: Postgres parses and plans a table's checks again for each statement, and a domain's once in
-- a session. Rules are functions because outbox.publish_all looks at them too, to say which event it was.

-- As many bytes are at most as many characters, and need not be counted. In an encoding that is not UTF-8 there may be
-- bytes that are no character of UTF-8: with one of them in it a batch could never be read. Converting fails, and says so.
DO $$
BEGIN
  IF getdatabaseencoding() = 'UTF8' THEN
    CREATE FUNCTION outbox.is_name(name text) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    RETURN name <> '' AND (octet_length(name) <= 255 OR char_length(name) <= 255);

    CREATE FUNCTION outbox.is_object(context jsonb) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    RETURN jsonb_typeof(context) = 'object';
  ELSE
    CREATE FUNCTION outbox.is_name(name text) RETURNS boolean
    LANGUAGE sql STABLE
    RETURN name <> '' AND char_length(name) <= 255 AND convert_to(name, 'UTF8') IS NOT NULL;

    CREATE FUNCTION outbox.is_object(context jsonb) RETURNS boolean
    LANGUAGE sql STABLE
    RETURN jsonb_typeof(context) = 'object' AND convert_to(context::text, 'UTF8') IS NOT NULL;
  END IF;
END
$$;

-- ClickHouse's parser ends at 1,023. A level takes 8 bytes at least, unless they are compressed.
CREATE FUNCTION outbox.is_shallow(context jsonb) RETURNS boolean
LANGUAGE sql STABLE
RETURN (pg_column_size(context) < 8000 AND pg_column_compression(context) IS NULL)
  OR NOT jsonb_path_exists(context, 'strict $.**{1001 to last}');

-- On its way to ClickHouse, in bytes: from {} to 1 MiB.
CREATE FUNCTION outbox.is_light(context_bytes integer) RETURNS boolean
LANGUAGE sql IMMUTABLE
RETURN context_bytes BETWEEN 2 AND 1048576;

-- The range of ClickHouse's DateTime64.
CREATE FUNCTION outbox.is_in_range(at timestamptz) RETURNS boolean
LANGUAGE sql IMMUTABLE
RETURN at >= '1900-01-01 00:00:00+00' AND at < '2300-01-01 00:00:00+00';

-- One regular expression would say the same, but at 4.5 us, not 0.4, it would be a third of what the whole row costs.
CREATE FUNCTION outbox.is_traceparent(traceparent text) RETURNS boolean
LANGUAGE sql IMMUTABLE
RETURN traceparent LIKE '__-________________________________-________________-__'
  AND char_length(replace(traceparent, '-', '')) = 52
  AND traceparent !~ '[^0-9a-f-]';

CREATE DOMAIN outbox.event_type AS text
  CONSTRAINT event_type_must_have_1_to_255_characters CHECK (outbox.is_name(VALUE));
CREATE DOMAIN outbox.environment AS text
  CONSTRAINT environment_must_have_1_to_255_characters CHECK (outbox.is_name(VALUE));
CREATE DOMAIN outbox.event_context AS jsonb
  CONSTRAINT event_context_must_be_a_json_object CHECK (outbox.is_object(VALUE))
  CONSTRAINT event_context_must_not_exceed_1000_levels CHECK (outbox.is_shallow(VALUE));
CREATE DOMAIN outbox.context_bytes AS integer
  CONSTRAINT event_context_must_not_exceed_1_mib CHECK (outbox.is_light(VALUE));
CREATE DOMAIN outbox.metadata_version AS bigint
  CONSTRAINT metadata_version_must_not_be_negative CHECK (VALUE >= 0);
CREATE DOMAIN outbox.event_date_time AS timestamptz
  CONSTRAINT event_date_time_must_be_from_1900_to_2299 CHECK (outbox.is_in_range(VALUE));
CREATE DOMAIN outbox.traceparent AS text
  CONSTRAINT traceparent_must_be_w3c_trace_context CHECK (outbox.is_traceparent(VALUE));

CREATE SEQUENCE outbox.event_id_seq AS bigint;

-- Append-only: a row is inserted once and never updated, so an event costs one heap row and one index entry.
CREATE TABLE outbox.event (
  -- The top-level transaction, also inside savepoints: what the sealer's windows are made of.
  tx_id xid8 NOT NULL DEFAULT pg_current_xact_id(),
  id bigint NOT NULL DEFAULT nextval('outbox.event_id_seq'),
  slot smallint NOT NULL DEFAULT outbox.current_slot(),
  event_id uuid NOT NULL DEFAULT outbox.uuid_v7(),
  event_type outbox.event_type NOT NULL,
  event_date_time outbox.event_date_time NOT NULL DEFAULT clock_timestamp(),
  environment outbox.environment NOT NULL,
  -- The text of a jsonb that outbox.publish found to be an outbox.event_context. A jsonb would be written as text again for
  -- each batch, which takes a quarter of what reading one costs.
  event_context json NOT NULL,
  metadata_version outbox.metadata_version NOT NULL DEFAULT 1,
  -- W3C trace context of the span that published.
  traceparent outbox.traceparent,
  published_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  -- octet_length(event_context::text), so that sealing never has to detoast a context. Whoever writes the row computes it:
  -- Postgres would parse and plan a generated column's expression again for each statement.
  context_bytes outbox.context_bytes NOT NULL,
  PRIMARY KEY (tx_id, id, slot)
) PARTITION BY LIST (slot);

CREATE TABLE outbox.event_slot_0 PARTITION OF outbox.event FOR VALUES IN (0);
CREATE TABLE outbox.event_slot_1 PARTITION OF outbox.event FOR VALUES IN (1);
CREATE TABLE outbox.event_slot_2 PARTITION OF outbox.event FOR VALUES IN (2);
CREATE TABLE outbox.event_slot_3 PARTITION OF outbox.event FOR VALUES IN (3);

-- When new rows began to go to a slot, when they ceased to, and when it was emptied last. Relays write down what they find
-- the sequence to say, so the first two may be later than it was, and never earlier.
CREATE TABLE outbox.slot (
  slot smallint PRIMARY KEY,
  opened_at timestamptz,
  left_at timestamptz,
  emptied_at timestamptz
);

INSERT INTO outbox.slot (slot) VALUES (0), (1), (2), (3);

-- The events of a window: visible in one snapshot and not in another, an earlier one. Two index ranges hold them, so that
-- finding them costs the same however long a transaction ran: those of transactions that were in progress in the earlier
-- snapshot, and those of transactions that began since. Every key of the first comes before every key of the second.
-- Plain SQL without SECURITY DEFINER, so that the planner inlines it and reads only the keys that are asked for.
CREATE FUNCTION outbox.window_late_events(from_snapshot pg_snapshot, to_snapshot pg_snapshot)
RETURNS SETOF outbox.event
LANGUAGE sql STABLE
BEGIN ATOMIC
  SELECT event.*
  FROM outbox.event
  WHERE tx_id = ANY (ARRAY(SELECT pg_snapshot_xip(from_snapshot)))
    AND pg_visible_in_snapshot(tx_id, to_snapshot);
END;

CREATE FUNCTION outbox.window_new_events(from_snapshot pg_snapshot, to_snapshot pg_snapshot)
RETURNS SETOF outbox.event
LANGUAGE sql STABLE
BEGIN ATOMIC
  SELECT event.*
  FROM outbox.event
  WHERE tx_id >= pg_snapshot_xmax(from_snapshot)
    AND tx_id < pg_snapshot_xmax(to_snapshot)
    AND pg_visible_in_snapshot(tx_id, to_snapshot);
END;

-- A server that is promoted or recovered to a point in time begins a new timeline of its write-ahead log, at once; the
-- control file learns of it with the next checkpoint only. 0 where the server does not tell, as Amazon Aurora may.
CREATE FUNCTION outbox.current_timeline() RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer;
EXCEPTION
  WHEN feature_not_supported OR object_not_in_prerequisite_state THEN RETURN 0;
END
$$;

-- How far sealing has come: one row. Every transaction visible in sealed_snapshot is in a batch; so is every row of
-- window_snapshot up to the cursor while that window is sealed batch by batch.
CREATE TABLE outbox.sealer (
  singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  -- Transaction ids belong to one cluster, and what is known of deliveries to one database: these are where all this was
  -- written. A dump that is restored on the same cluster makes another table of outbox.event, and CREATE DATABASE
  -- ... TEMPLATE another database.
  system_identifier bigint NOT NULL,
  database_oid oid NOT NULL,
  table_oid oid NOT NULL,
  -- The timeline that all this is known to be of. Another one means that commits may have been lost.
  timeline integer NOT NULL,
  -- What was written by transactions before this one may have been delivered by commits that were lost.
  doubt_before xid8 NOT NULL DEFAULT '0',
  -- Since when. What is known of failures from before may be less than what was done about them.
  doubted_at timestamptz NOT NULL DEFAULT '-infinity',
  sealed_snapshot pg_snapshot NOT NULL,
  window_snapshot pg_snapshot,
  cursor_tx_id xid8,
  cursor_id bigint,
  sealed_at timestamptz NOT NULL,
  -- Where event_id_seq was when everything that was committed had been sealed, or the same minus what a window still
  -- holds: how far the sequence has moved on since tells how many events are not in a batch, without counting them. It
  -- counts those of open transactions, but not of those that were open then.
  event_position bigint NOT NULL DEFAULT 0,
  CHECK ((window_snapshot IS NULL) = (cursor_tx_id IS NULL) AND (window_snapshot IS NULL) = (cursor_id IS NULL))
) WITH (fillfactor = 10);

INSERT INTO outbox.sealer (system_identifier, database_oid, table_oid, timeline, sealed_snapshot, sealed_at)
SELECT
  system_identifier, database.oid, 'outbox.event'::regclass, outbox.current_timeline(), pg_current_snapshot(), '-infinity'
FROM pg_control_system(), pg_database AS database
WHERE datname = current_database();

-- Whether this transaction may do what one relay does at a time, until it ends: seal, or give back space. It holds a lock of
-- a table that only relays may change, as any role can take any advisory lock. The mode conflicts with itself and with
-- nothing that reads or writes rows. It assigns no transaction id, so that what seals has none when it takes its snapshot.
-- A statement of its own: the snapshot of the next one is taken after whoever had the lock before has committed. Where it
-- is taken the trap keeps that from ending the transaction, and out of Postgres' log.
CREATE FUNCTION outbox.take_turn(duty text) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  CASE duty
    WHEN 'seal' THEN LOCK TABLE outbox.sealer IN SHARE UPDATE EXCLUSIVE MODE NOWAIT;
    WHEN 'reclaim' THEN LOCK TABLE outbox.slot IN SHARE UPDATE EXCLUSIVE MODE NOWAIT;
  END CASE;
  RETURN true;
EXCEPTION
  WHEN lock_not_available THEN RETURN false;
END
$$;

-- The manifest. The upper half of a row is immutable: it defines which events the batch holds and under which token
-- ClickHouse de-duplicates it. The lower half is its delivery.
CREATE TABLE outbox.batch (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  -- Random, not derived from the id: ids come back after a point-in-time restore, a token must not.
  token uuid NOT NULL DEFAULT gen_random_uuid(),
  -- The batch holds the rows visible in to_snapshot and not in from_snapshot, from the first key to the last.
  from_snapshot pg_snapshot NOT NULL,
  to_snapshot pg_snapshot NOT NULL,
  first_tx_id xid8 NOT NULL,
  first_id bigint NOT NULL,
  last_tx_id xid8 NOT NULL,
  last_id bigint NOT NULL,
  event_count integer NOT NULL CHECK (event_count > 0),
  byte_count bigint NOT NULL,
  -- Where its rows are: no slot is emptied before its batches are dealt with, and no other is read for this one.
  slots smallint[] NOT NULL,
  -- Lets ClickHouse be asked for the batch's events through its primary key.
  event_types text[] NOT NULL,
  -- Whether the batch holds events of these types only. Those of others between its keys are in a batch that was split off
  -- with it.
  by_type boolean NOT NULL DEFAULT false,
  first_event_date_time timestamptz NOT NULL,
  last_event_date_time timestamptz NOT NULL,
  first_published_at timestamptz NOT NULL,
  -- Up to 32 of the traces its events were published in: the delivery's span links to them.
  traceparents text[] NOT NULL,
  sealed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  -- What ClickHouse refuses is split into smaller batches: the one it was split off, and the one that was sealed. Such a
  -- batch has the types, times and traces of its parent, which are at least its own.
  parent_id bigint,
  origin_id bigint,
  -- The one event that ClickHouse's refusal of the parent named.
  suspect boolean NOT NULL DEFAULT false,
  -- How often its events were sent in the batches that it was split off.
  attempts_before integer NOT NULL DEFAULT 0,

  -- split: its events are in other batches now. failed: they are in outbox.batch_failure.
  state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'split', 'failed')),
  -- A pending batch may be leased from here on: after its lease has run out, or when it is to be tried again.
  available_at timestamptz NOT NULL DEFAULT '-infinity',
  lease_id uuid,
  lease_owner text,
  attempts integer NOT NULL DEFAULT 0,
  -- Attempts that ended in an answer from which it is certain that nothing was written. The others are in doubt.
  settled_attempts integer NOT NULL DEFAULT 0,
  first_attempt_at timestamptz,
  last_attempt_at timestamptz,
  -- Of the last attempt that failed, and when the first did.
  error_class text,
  error_code integer,
  error_message text,
  first_error_at timestamptz,
  -- The incident that it was or is part of.
  incident_id bigint,
  -- Events that ClickHouse was found to lack after an attempt in doubt, and the token they are sent again under.
  repair_token uuid,
  repair_event_ids uuid[],
  -- Events that ClickHouse refused while it had the others: published again, and in another batch now.
  republished_event_ids uuid[],
  delivered_at timestamptz,
  -- Whatever is known of its attempts, ClickHouse may have some of its events: none is sent before it was asked.
  ask_first boolean NOT NULL DEFAULT false,
  -- When it was delivered first, if it was requeued since, because ClickHouse was found to lack so many of its events:
  -- first_error_at says when. By then rows of it may have been deleted, or published again.
  was_delivered_at timestamptz,
  missing_count integer,
  CHECK (was_delivered_at IS NULL OR ask_first),
  CHECK ((was_delivered_at IS NULL) = (missing_count IS NULL)),
  CHECK ((state = 'delivered') = (delivered_at IS NOT NULL)),
  CHECK ((repair_token IS NULL) = (repair_event_ids IS NULL)),
  CHECK ((parent_id IS NULL) = (origin_id IS NULL))
) WITH (fillfactor = 50);

-- In the order in which batches are leased.
CREATE INDEX batch_pending ON outbox.batch ((was_delivered_at IS NOT NULL), id) WHERE state = 'pending';
-- Charts ask all the time what was sealed and delivered since when. They read these indexes alone: a row is wide.
CREATE INDEX batch_delivered_at ON outbox.batch (delivered_at) INCLUDE (event_count, first_published_at, was_delivered_at)
  WHERE state = 'delivered';
CREATE INDEX batch_was_delivered_at ON outbox.batch (was_delivered_at) WHERE was_delivered_at IS NOT NULL;
CREATE INDEX batch_sealed_at ON outbox.batch (sealed_at) INCLUDE (event_count, first_published_at)
  WHERE parent_id IS NULL;
CREATE INDEX batch_origin ON outbox.batch (origin_id) WHERE origin_id IS NOT NULL;
-- Whether one of an incident's batches is pending is one look, however many were delivered.
CREATE INDEX batch_incident ON outbox.batch (incident_id, state, id) WHERE incident_id IS NOT NULL;

-- A batch's state as people speak of it.
CREATE FUNCTION outbox.batch_state(batch outbox.batch) RETURNS text
LANGUAGE sql VOLATILE
BEGIN ATOMIC
  SELECT CASE
    WHEN batch.state <> 'pending' THEN batch.state
    WHEN batch.lease_id IS NOT NULL AND batch.available_at > clock_timestamp() THEN 'leased'
    WHEN batch.error_class IN ('configuration', 'unknown') THEN 'blocked'
    WHEN batch.error_class IS NOT NULL THEN 'retrying'
    ELSE 'sealed'
  END;
END;

CREATE VIEW outbox.batch_status AS
SELECT
  id,
  outbox.batch_state(batch) AS state,
  event_count, byte_count, sealed_at, delivered_at, available_at, lease_owner, attempts,
  error_class, error_code, error_message, first_error_at, incident_id, parent_id, origin_id, token
FROM outbox.batch;

-- What became of each event that is still in the outbox. Nothing is stored for it: a row's batch follows from the
-- window and the keys that define the batch. A row that was published again is not shown: what became of the event is
-- what became of the other row.
CREATE VIEW outbox.event_status AS
SELECT
  event.event_id, event.event_type, event.event_date_time, event.published_at,
  batch.id AS batch_id,
  CASE
    WHEN batch.state = 'delivered' THEN 'COMPLETED'
    WHEN batch.state = 'failed' THEN 'FAILED'
    ELSE 'PENDING'
  END AS status,
  batch.delivered_at
FROM outbox.event
LEFT JOIN outbox.batch
  ON batch.state <> 'split'
 AND (NOT batch.by_type OR event.event_type::text = ANY (batch.event_types))
 AND (event.tx_id, event.id) >= (batch.first_tx_id, batch.first_id)
 AND (event.tx_id, event.id) <= (batch.last_tx_id, batch.last_id)
 AND pg_visible_in_snapshot(event.tx_id, batch.to_snapshot)
 AND NOT pg_visible_in_snapshot(event.tx_id, batch.from_snapshot)
WHERE batch.republished_event_ids IS NULL OR event.event_id <> ALL (batch.republished_event_ids);

-- Fails because what must be given is NULL, and says of which event of several. VOLATILE, so that no plan runs it.
CREATE FUNCTION outbox.refuse_null(argument text, detail text DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RAISE EXCEPTION USING
    ERRCODE = 'not_null_violation', MESSAGE = format('%s must not be NULL', argument), COLUMN = argument, SCHEMA = 'outbox',
    DETAIL = coalesce(detail, '');
END
$$;

-- Publishes one event in the caller's transaction and returns its id. For every language that speaks SQL.
-- NULL means the default: now, the setting outbox.environment or 'production', version 1, a new uuid.
-- Runs as its owner, so that an application needs no privilege on the table, and by a search_path that is not the
-- caller's. PL/pgSQL, because before version 18 a function in SQL is planned at each call.
CREATE FUNCTION outbox.publish(
  event_type text,
  event_context jsonb,
  event_date_time timestamptz DEFAULT NULL,
  environment text DEFAULT NULL,
  metadata_version bigint DEFAULT NULL,
  event_id uuid DEFAULT NULL,
  traceparent text DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  context json;
BEGIN
  -- The table's own error would quote the row, and name one of the outbox's tables.
  IF event_type IS NULL THEN PERFORM outbox.refuse_null('event_type'); END IF;
  IF event_context IS NULL THEN PERFORM outbox.refuse_null('event_context'); END IF;
  context := event_context::outbox.event_context;
  event_id := coalesce(event_id, outbox.uuid_v7());
  INSERT INTO outbox.event (
    event_type, event_context, context_bytes, event_date_time, environment, metadata_version, event_id, traceparent
  )
  VALUES (
    event_type,
    context,
    octet_length(context::text),
    coalesce(event_date_time, clock_timestamp()),
    coalesce(environment, outbox.default_environment()),
    coalesce(metadata_version, 1),
    event_id,
    traceparent
  );
  RETURN event_id;
END
$$;

-- Fails as a domain does, and says by which event.
CREATE FUNCTION outbox.raise_invalid_event(
  place bigint,
  event_type text,
  event_context jsonb,
  event_date_time timestamptz,
  environment text,
  metadata_version bigint,
  event_id uuid,
  traceparent text
) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  message text;
  violated text;
  type_name text;
  which text := format('It is event %s of those published together: %s', place, concat_ws(', ', event_id, event_type));
BEGIN
  IF event_type IS NULL THEN PERFORM outbox.refuse_null('event_type', which); END IF;
  IF event_context IS NULL THEN PERFORM outbox.refuse_null('event_context', which); END IF;
  PERFORM
    event_type::outbox.event_type, event_context::outbox.event_context,
    octet_length(event_context::text)::outbox.context_bytes, event_date_time::outbox.event_date_time,
    environment::outbox.environment, metadata_version::outbox.metadata_version, traceparent::outbox.traceparent;
  RETURN true;
EXCEPTION WHEN check_violation THEN
  GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, violated = CONSTRAINT_NAME, type_name = PG_DATATYPE_NAME;
  RAISE EXCEPTION USING
    ERRCODE = 'check_violation', MESSAGE = message, CONSTRAINT = violated, SCHEMA = 'outbox', DATATYPE = type_name,
    DETAIL = which;
END
$$;

-- Publishes many events in one statement: the n-th elements of the arrays are the n-th event, with NULL as above. So many
-- as the longest array has: empty ones publish nothing, and NULL in the place of one that must be given is refused.
CREATE FUNCTION outbox.publish_all(
  event_types text[],
  event_contexts jsonb[],
  event_date_times timestamptz[] DEFAULT NULL,
  environments text[] DEFAULT NULL,
  metadata_versions bigint[] DEFAULT NULL,
  event_ids uuid[] DEFAULT NULL,
  traceparent text DEFAULT NULL
) RETURNS SETOF uuid
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  INSERT INTO outbox.event AS published (
    event_type, event_context, context_bytes, event_date_time, environment, metadata_version, event_id, traceparent, slot
  )
  SELECT
    given.event_type,
    given.context,
    octet_length(given.context::text),
    coalesce(given.event_date_time, clock_timestamp()),
    coalesce(given.environment, (SELECT outbox.default_environment())),
    coalesce(given.metadata_version, 1),
    coalesce(given.event_id, outbox.uuid_v7()),
    publish_all.traceparent,
    (SELECT outbox.current_slot())
  FROM (
    SELECT *, event_context::json AS context
    FROM unnest(
      -- Of NULL it makes no row, whose absence nobody would notice: so one, which is refused below.
      coalesce(event_types, '{NULL}'), coalesce(event_contexts, '{NULL}'), event_date_times, environments,
      metadata_versions, event_ids
    )
      WITH ORDINALITY
      AS given (event_type, event_context, event_date_time, environment, metadata_version, event_id, place)
    -- So that each context is written as text once, and not wherever it is used.
    OFFSET 0
  ) AS given
  WHERE CASE
    WHEN event_types IS NULL THEN outbox.refuse_null('event_types')
    WHEN event_contexts IS NULL THEN outbox.refuse_null('event_contexts')
    WHEN given.event_type IS NOT NULL AND given.event_context IS NOT NULL AND (
      outbox.is_name(given.event_type)
      AND outbox.is_object(given.event_context)
      AND outbox.is_shallow(given.event_context)
      AND outbox.is_light(octet_length(given.context::text))
      AND outbox.is_in_range(given.event_date_time)
      AND outbox.is_name(given.environment)
      AND given.metadata_version >= 0
    ) IS NOT FALSE THEN true
    ELSE outbox.raise_invalid_event(
      given.place, given.event_type, given.event_context, given.event_date_time, given.environment,
      given.metadata_version, given.event_id, publish_all.traceparent
    )
  END
  RETURNING published.event_id;
END;

-- A view's triggers cannot be ENABLE ALWAYS. Where session_replication_role is replica, as backfills set it, they do not
-- fire, and Postgres would count rows that nobody writes. A domain's checks run all the same.
CREATE DOMAIN outbox.new_event_type AS text
  CONSTRAINT session_replication_role_must_not_be_replica CHECK (current_setting('session_replication_role') <> 'replica');

-- For COPY, whose lines are checked and written as events that are published one by one. It reads no table: LOCK TABLE of
-- a view locks all that it reads, which for whoever may publish would be every slot.
CREATE VIEW outbox.new_event AS
SELECT
  NULL::outbox.new_event_type AS event_type, NULL::jsonb AS event_context, NULL::timestamptz AS event_date_time,
  NULL::text AS environment, NULL::bigint AS metadata_version, NULL::uuid AS event_id, NULL::text AS traceparent
WHERE false;

CREATE FUNCTION outbox.publish_new_event() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM outbox.publish(
    NEW.event_type, NEW.event_context, NEW.event_date_time, NEW.environment, NEW.metadata_version, NEW.event_id,
    NEW.traceparent
  );
  RETURN NEW;
END
$$;

CREATE TRIGGER publish INSTEAD OF INSERT ON outbox.new_event
FOR EACH ROW EXECUTE FUNCTION outbox.publish_new_event();
