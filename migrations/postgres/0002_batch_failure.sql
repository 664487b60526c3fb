-- What ClickHouse refused, and what operators did about it. docs/failures.md explains the states.

-- Events that ClickHouse refused: one that was refused alone or, where a batch had too many of them, the rest of a range
-- that was refused and not examined further.
CREATE TABLE outbox.batch_failure (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  -- The batch that was refused, and the one that was sealed, of which it may be a part.
  batch_id bigint NOT NULL UNIQUE,
  origin_batch_id bigint NOT NULL,
  event_count integer NOT NULL CHECK (event_count > 0),
  -- Whether there may be good events among them: the limit of refused events in one batch had been reached.
  parked boolean NOT NULL,
  error_class text NOT NULL,
  error_code integer,
  error_message text NOT NULL,
  -- The first and the last refusal, and how often the events were sent.
  first_seen_at timestamptz NOT NULL,
  last_seen_at timestamptz NOT NULL,
  attempts integer NOT NULL,
  -- Where its events were replayed from, if they were.
  previous_failure_id bigint,
  -- open: undelivered. replayed: all of its events were published again. resolved: somebody took care of them in another
  -- way. discarded: somebody decided that they are not to be delivered.
  state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'replayed', 'resolved', 'discarded')),
  closed_at timestamptz,
  -- Why it was resolved or discarded.
  note text,
  CHECK ((state = 'open') = (closed_at IS NULL)),
  CHECK (state NOT IN ('resolved', 'discarded') OR note IS NOT NULL)
);

CREATE INDEX batch_failure_origin ON outbox.batch_failure (origin_batch_id);
CREATE INDEX batch_failure_previous ON outbox.batch_failure (previous_failure_id) WHERE previous_failure_id IS NOT NULL;
CREATE INDEX batch_failure_last_seen_at ON outbox.batch_failure (last_seen_at);
CREATE INDEX batch_failure_open ON outbox.batch_failure (id) WHERE state = 'open';
CREATE INDEX batch_failure_closed_at ON outbox.batch_failure (closed_at) WHERE state <> 'open';

-- The events themselves, copied so that they outlive their rows in the outbox. Bound by the outbox's own domains, so that
-- whatever is corrected here can be published again.
CREATE TABLE outbox.batch_failure_event (
  failure_id bigint NOT NULL REFERENCES outbox.batch_failure ON DELETE CASCADE,
  LIKE outbox.event,
  -- When it was corrected last; NULL while it is what was refused.
  corrected_at timestamptz,
  replayed_at timestamptz,
  PRIMARY KEY (failure_id, id)
);

CREATE INDEX batch_failure_event_event_id ON outbox.batch_failure_event (event_id);
CREATE INDEX batch_failure_event_replayed ON outbox.batch_failure_event (failure_id) WHERE replayed_at IS NOT NULL;

-- A time in which batches did not get through although nothing was wrong with their events. One of each class is open at
-- most; outbox.batch.incident_id says which batches. Closed when none of them is pending any more.
CREATE TABLE outbox.incident (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  -- Of its batches, where in-doubt counts as transient.
  error_class text NOT NULL,
  -- Of the last attempt that failed.
  error_code integer,
  error_message text NOT NULL,
  -- When the first of its batches failed for the first time, and when that was long enough ago to be an incident.
  began_at timestamptz NOT NULL,
  opened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  last_seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  -- Of its batches, those that failed.
  attempts integer NOT NULL DEFAULT 1,
  closed_at timestamptz
);

CREATE UNIQUE INDEX incident_open ON outbox.incident (error_class) WHERE closed_at IS NULL;
CREATE INDEX incident_closed_at ON outbox.incident (closed_at) WHERE closed_at IS NOT NULL;

-- While there is a row here no relay takes a batch.
CREATE TABLE outbox.relay_pause (
  singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  paused_by text NOT NULL,
  reason text NOT NULL,
  paused_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What operators changed: written in the transaction of the change.
CREATE TABLE outbox.audit (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  occurred_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  actor text NOT NULL,
  action text NOT NULL CHECK (
    action IN ('correct', 'replay', 'discard', 'resolve', 'reopen', 'requeue', 'pause', 'resume')
  ),
  failure_id bigint,
  event_id uuid,
  -- The columns that were changed, as they were and as they are; corrected_at where a correction was taken back.
  before jsonb NOT NULL,
  after jsonb NOT NULL
);

CREATE INDEX audit_failure ON outbox.audit (failure_id, id);
CREATE INDEX audit_occurred_at ON outbox.audit (occurred_at);

-- Each failure with a summary of its events.
CREATE VIEW outbox.batch_failure_status AS
SELECT
  failure.*,
  events.event_types,
  events.corrected_count,
  events.replayed_count,
  -- The failure that came of its replay: an open one if there is any, else the newest.
  (
    SELECT id FROM outbox.batch_failure
    WHERE previous_failure_id = failure.id
    ORDER BY state = 'open' DESC, id DESC
    LIMIT 1
  ) AS next_failure_id
FROM outbox.batch_failure AS failure,
LATERAL (
  SELECT
    array_agg(DISTINCT event_type::text ORDER BY event_type::text) AS event_types,
    -- Only of events that were not replayed: a replayed one was published as it was then.
    (count(corrected_at) FILTER (WHERE replayed_at IS NULL))::integer AS corrected_count,
    count(replayed_at)::integer AS replayed_count
  FROM outbox.batch_failure_event
  WHERE failure_id = failure.id
) AS events;

-- Each event of a failure, with the refusal.
CREATE VIEW outbox.failed_event AS
SELECT
  failure.id AS failure_id, failure.batch_id, failure.state, failure.parked,
  failure.error_class, failure.error_code, failure.error_message,
  event.event_id, event.event_type, event.event_date_time, event.environment,
  event.event_context::jsonb AS event_context,
  event.metadata_version, event.traceparent, event.published_at, event.corrected_at, event.replayed_at
FROM outbox.batch_failure AS failure
JOIN outbox.batch_failure_event AS event ON event.failure_id = failure.id;

-- Each incident with up to 100 of its batches that are still in the manifest, those first that are pending.
CREATE VIEW outbox.incident_status AS
SELECT
  incident.*,
  CASE WHEN incident.closed_at IS NULL THEN 'open' ELSE 'closed' END AS state,
  ARRAY(
    SELECT batch.id
    FROM unnest('{pending,delivered,split,failed}'::text[]) AS states (state),
    LATERAL (
      SELECT id
      FROM outbox.batch
      WHERE batch.incident_id = incident.id AND batch.state = states.state
      ORDER BY id
      LIMIT 100
    ) AS batch
    ORDER BY states.state <> 'pending', batch.id
    LIMIT 100
  ) AS batch_ids
FROM outbox.incident;

-- Makes a delivered batch pending again, so that a relay asks ClickHouse for its events and sends those that are missing:
-- what operators may do to a batch, and all they may. Nothing happens to one that was requeued or delivered since.
CREATE FUNCTION outbox.requeue(batch_id bigint, seen_delivered_at timestamptz, missing_events integer) RETURNS boolean
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  UPDATE outbox.batch SET
    state = 'pending',
    ask_first = true,
    was_delivered_at = coalesce(was_delivered_at, delivered_at),
    missing_count = missing_events,
    delivered_at = NULL,
    available_at = '-infinity',
    error_class = 'in-doubt',
    error_code = NULL,
    error_message = format('ClickHouse lacks %s of its events, which it had taken', missing_events),
    first_error_at = clock_timestamp(),
    incident_id = NULL
  WHERE id = batch_id AND state = 'delivered' AND delivered_at = seen_delivered_at
  RETURNING true;
END;

-- Has ClickHouse asked for everything that is sealed up to this transaction, before it is sent. Never for less than before:
-- what operators may do to the sealer, and all they may.
CREATE FUNCTION outbox.doubt_until_now() RETURNS xid8
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  UPDATE outbox.sealer SET doubt_before = greatest(doubt_before, (pg_current_xact_id()::text::bigint + 1)::text::xid8)
  RETURNING doubt_before;
END;
