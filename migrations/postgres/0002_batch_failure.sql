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

-- What operators change, they change by the functions below, and by nothing else: each dates what it does, and writes it
-- into the audit trail in the same statement, under the name that it is given. They run as their owner.

-- Which of these failures are there, and in which state: they stay in it until the transaction ends. In the order of their
-- ids, so that two who change several at once do not wait for each other.
CREATE FUNCTION outbox.lock_failures(failure_ids bigint[]) RETURNS TABLE (id bigint, state text)
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT failure.id, failure.state
  FROM outbox.batch_failure AS failure
  WHERE failure.id = ANY (failure_ids)
  ORDER BY failure.id
  FOR UPDATE;
END;

-- Closes those that are open as discarded or resolved, and returns which.
CREATE FUNCTION outbox.close_failures(failure_ids bigint[], becomes text, reason text, actor text) RETURNS SETOF bigint
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH closed AS (
    UPDATE outbox.batch_failure SET state = becomes, note = reason, closed_at = clock_timestamp()
    WHERE id = ANY (failure_ids) AND state = 'open' AND becomes IN ('discarded', 'resolved')
    RETURNING id
  )
  INSERT INTO outbox.audit (actor, action, failure_id, before, after)
  SELECT
    close_failures.actor, CASE becomes WHEN 'discarded' THEN 'discard' ELSE 'resolve' END, id,
    jsonb_build_object('state', 'open'),
    jsonb_build_object('state', becomes, 'note', reason)
  FROM closed
  ORDER BY id
  RETURNING failure_id;
END;

-- Opens again those that were discarded or resolved, and returns which. What was replayed is published.
CREATE FUNCTION outbox.reopen_failures(failure_ids bigint[], actor text) RETURNS SETOF bigint
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH closed AS MATERIALIZED (
    -- Locked, so that what the trail says of them is what they were.
    SELECT id, state, note
    FROM outbox.batch_failure
    WHERE id = ANY (failure_ids) AND state IN ('discarded', 'resolved')
    ORDER BY id
    FOR UPDATE
  ),
  reopened AS (
    UPDATE outbox.batch_failure AS failure SET state = 'open', note = NULL, closed_at = NULL
    FROM closed
    WHERE failure.id = closed.id
  )
  INSERT INTO outbox.audit (actor, action, failure_id, before, after)
  SELECT
    reopen_failures.actor, 'reopen', id,
    jsonb_build_object('state', state, 'note', note),
    jsonb_build_object('state', 'open')
  FROM closed
  ORDER BY id
  RETURNING failure_id;
END;

-- Changes an event that was refused and was not replayed. What was and what is are compared here, so that the trail has
-- what Postgres stored. The failure is locked: see outbox.lock_failures.
CREATE FUNCTION outbox.correct_event(
  failure_id bigint,
  row_id bigint,
  event_type text,
  event_date_time timestamptz,
  event_context jsonb,
  metadata_version bigint,
  actor text
) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH before AS (
    SELECT
      event.event_id,
      jsonb_build_object(
        'event_type', event.event_type, 'event_date_time', event.event_date_time,
        'event_context', event.event_context, 'metadata_version', event.metadata_version
      ) AS columns,
      event.corrected_at
    FROM outbox.batch_failure_event AS event
    WHERE event.failure_id = correct_event.failure_id
      AND event.id = row_id
      AND event.replayed_at IS NULL
      AND EXISTS (SELECT FROM outbox.batch_failure WHERE id = correct_event.failure_id AND state = 'open')
  ),
  becomes AS (
    SELECT jsonb_build_object(
      'event_type', correct_event.event_type, 'event_date_time', correct_event.event_date_time,
      'event_context', correct_event.event_context, 'metadata_version', correct_event.metadata_version
    ) AS columns
  ),
  refused AS (
    -- What ClickHouse refused: what each column was changed from first. Of a key that comes twice the last one stays.
    SELECT
      before.columns || (
        SELECT coalesce(jsonb_object_agg(key, value ORDER BY audit.id DESC), '{}')
        FROM outbox.audit, jsonb_each(audit.before)
        WHERE audit.failure_id = correct_event.failure_id
          AND audit.event_id = before.event_id
          AND audit.action = 'correct'
          AND before.columns ? key
      ) AS columns
    FROM before
  ),
  updated AS (
    UPDATE outbox.batch_failure_event AS event SET
      event_type = correct_event.event_type,
      event_date_time = correct_event.event_date_time,
      event_context = correct_event.event_context,
      context_bytes = octet_length(correct_event.event_context::text),
      metadata_version = correct_event.metadata_version,
      -- A correction that was taken back is none.
      corrected_at = CASE WHEN becomes.columns <> refused.columns THEN clock_timestamp() END
    FROM becomes, refused
    WHERE event.failure_id = correct_event.failure_id AND event.id = row_id
  ),
  changed AS (
    SELECT key, was.value AS before, became.value AS after
    FROM before, becomes, jsonb_each(before.columns) AS was JOIN jsonb_each(becomes.columns) AS became USING (key)
    WHERE was.value <> became.value
    UNION ALL
    SELECT 'corrected_at', to_jsonb(before.corrected_at), 'null'
    FROM before, becomes, refused
    WHERE before.corrected_at IS NOT NULL AND becomes.columns = refused.columns
  )
  INSERT INTO outbox.audit (actor, action, failure_id, event_id, before, after)
  SELECT
    correct_event.actor, 'correct', correct_event.failure_id, before.event_id,
    coalesce((SELECT jsonb_object_agg(key, changed.before) FROM changed), '{}'),
    coalesce((SELECT jsonb_object_agg(key, changed.after) FROM changed), '{}')
  FROM before;
END;

-- Has ClickHouse asked for everything that is sealed up to this transaction, before it is sent. Never for less than before.
CREATE FUNCTION outbox.doubt_until_now() RETURNS xid8
LANGUAGE sql VOLATILE
BEGIN ATOMIC
  UPDATE outbox.sealer SET doubt_before = greatest(doubt_before, (pg_current_xact_id()::text::bigint + 1)::text::xid8)
  RETURNING doubt_before;
END;

-- Publishes again those events of open failures that were not yet, or of one failure the one row that is named, and closes
-- the failures of which none is left. One statement marks the events and publishes them, so that neither happens without
-- the other: pressed twice, or broken off, each event is published once. The failures are locked: see
-- outbox.lock_failures. The columns are written as they are: they were checked when they were published or corrected.
CREATE FUNCTION outbox.replay_events(
  failure_ids bigint[],
  row_id bigint,
  actor text,
  OUT failures bigint[],
  OUT events bigint,
  -- Whether ClickHouse is asked for them first.
  OUT doubted boolean
)
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH replayed AS (
    UPDATE outbox.batch_failure_event AS event SET replayed_at = clock_timestamp()
    FROM outbox.batch_failure AS failure
    WHERE failure.id = event.failure_id
      AND failure.state = 'open'
      AND event.failure_id = ANY (failure_ids)
      AND event.replayed_at IS NULL
      AND (row_id IS NULL OR event.id = row_id)
    RETURNING
      event.failure_id, event.id, failure.last_seen_at, event.event_id, event.event_type, event.event_date_time,
      event.environment, event.event_context, event.context_bytes, event.metadata_version, event.traceparent
  ),
  published AS (
    INSERT INTO outbox.event (
      event_id, event_type, event_date_time, environment, event_context, context_bytes, metadata_version, traceparent, slot
    )
    SELECT
      event_id, event_type, event_date_time, environment, event_context, context_bytes, metadata_version, traceparent,
      (SELECT outbox.current_slot())
    FROM replayed
    ORDER BY failure_id, id
  ),
  doubted AS (
    -- A commit that was lost may have replayed them already: ClickHouse is asked for what is sealed up to here. Of a new
    -- timeline the sealer may not have told yet.
    SELECT outbox.doubt_until_now() AS before
    FROM outbox.sealer
    WHERE sealer.timeline <> outbox.current_timeline()
      OR EXISTS (SELECT FROM replayed WHERE last_seen_at < doubted_at)
  ),
  replayed_failure AS (
    SELECT failure_id, count(*) AS events, min(event_id::text)::uuid AS event_id FROM replayed GROUP BY failure_id
  ),
  closed AS (
    UPDATE outbox.batch_failure SET state = 'replayed', closed_at = clock_timestamp()
    FROM replayed_failure
    WHERE batch_failure.id = replayed_failure.failure_id
      -- This statement's own changes are not in its snapshot.
      AND replayed_failure.events = (
        SELECT count(*)
        FROM outbox.batch_failure_event AS event
        WHERE event.failure_id = batch_failure.id AND event.replayed_at IS NULL
      )
    RETURNING batch_failure.id
  ),
  audited AS (
    INSERT INTO outbox.audit (actor, action, failure_id, event_id, before, after)
    SELECT
      replay_events.actor, 'replay', replayed_failure.failure_id,
      CASE WHEN replayed_failure.events = 1 THEN replayed_failure.event_id END,
      jsonb_build_object('state', 'open'),
      jsonb_build_object(
        'state', CASE WHEN closed.id IS NULL THEN 'open' ELSE 'replayed' END,
        'replayed_events', replayed_failure.events
      )
    FROM replayed_failure LEFT JOIN closed ON closed.id = replayed_failure.failure_id
  )
  -- A SELECT above is run only because it is asked for here.
  SELECT
    coalesce(array_agg(failure_id ORDER BY failure_id), '{}'),
    coalesce(sum(replayed_failure.events), 0)::bigint,
    (SELECT count(before) > 0 FROM doubted)
  FROM replayed_failure;
END;

-- No relay takes a batch from here on. Nothing happens if there is a pause: the key admits one row, so of two who pause at
-- once the second waits, and inserts nothing.
CREATE FUNCTION outbox.pause_relays(reason text, actor text) RETURNS SETOF outbox.relay_pause
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH paused AS (
    INSERT INTO outbox.relay_pause (paused_by, reason) VALUES (pause_relays.actor, pause_relays.reason)
    ON CONFLICT DO NOTHING
    RETURNING *
  ),
  audited AS (
    INSERT INTO outbox.audit (actor, action, before, after)
    SELECT
      pause_relays.actor, 'pause', jsonb_build_object('paused', false),
      jsonb_build_object('paused', true, 'reason', paused.reason)
    FROM paused
  )
  SELECT * FROM paused;
END;

-- Returns the pause that ended. The row is deleted once: of two who resume at once the second finds none.
CREATE FUNCTION outbox.resume_relays(actor text) RETURNS SETOF outbox.relay_pause
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH ended AS (
    DELETE FROM outbox.relay_pause RETURNING *
  ),
  audited AS (
    INSERT INTO outbox.audit (actor, action, before, after)
    SELECT
      resume_relays.actor, 'resume', jsonb_build_object('paused', true, 'reason', ended.reason),
      jsonb_build_object('paused', false)
    FROM ended
  )
  SELECT * FROM ended;
END;

-- Makes a delivered batch pending again, so that a relay asks ClickHouse for its events and sends those that are missing.
-- Nothing happens to one that was requeued or delivered since.
CREATE FUNCTION outbox.requeue(batch_id bigint, seen_delivered_at timestamptz, missing_events integer, actor text)
RETURNS boolean
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH requeued AS (
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
    WHERE id = requeue.batch_id AND state = 'delivered' AND delivered_at = seen_delivered_at
    RETURNING id
  )
  INSERT INTO outbox.audit (actor, action, before, after)
  SELECT
    requeue.actor, 'requeue',
    jsonb_build_object('batch_id', id, 'state', 'delivered', 'delivered_at', seen_delivered_at),
    jsonb_build_object('batch_id', id, 'state', 'pending', 'missing_events', missing_events)
  FROM requeued
  RETURNING true;
END;

-- What time deletes, relays delete by the functions below, and by nothing else. They keep a minimum, whatever they are told,
-- so that what somebody did in another's name can still be looked at.

-- One step of deleting failures and incidents that were closed, and entries of the audit trail that were written, longer
-- ago than this, and than a day. Returns how many rows went: there may be more. Relays that do it at once pass over each
-- other's rows.
CREATE FUNCTION outbox.delete_closed(retention interval) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  too_old timestamptz := clock_timestamp() - greatest(retention, interval '1 day');
  step bigint;
  deleted bigint := 0;
BEGIN
  -- A failure's events go with it, so a step ends where they become many: one may hold a whole batch. One that is reopened
  -- meanwhile stays: the newest version of a row is what is locked.
  DELETE FROM outbox.batch_failure
  WHERE id IN (
    SELECT id
    FROM (
      SELECT id, event_count, sum(event_count) OVER (ORDER BY closed_at, id) AS events
      FROM (
        SELECT id, event_count, closed_at
        FROM outbox.batch_failure
        WHERE state <> 'open' AND closed_at < too_old
        ORDER BY closed_at, id
        LIMIT 100
        FOR UPDATE SKIP LOCKED
      ) AS oldest
    ) AS counted
    WHERE events - event_count < 10000
  );
  GET DIAGNOSTICS step = ROW_COUNT;
  deleted := deleted + step;

  DELETE FROM outbox.incident
  WHERE id IN (
    SELECT id FROM outbox.incident WHERE closed_at < too_old ORDER BY closed_at LIMIT 10000 FOR UPDATE SKIP LOCKED
  );
  GET DIAGNOSTICS step = ROW_COUNT;
  deleted := deleted + step;

  -- As long as the failure is there, what was done about it is.
  DELETE FROM outbox.audit
  WHERE id IN (
    SELECT id
    FROM outbox.audit
    WHERE occurred_at < too_old
      AND NOT EXISTS (SELECT FROM outbox.batch_failure WHERE batch_failure.id = audit.failure_id)
    ORDER BY occurred_at
    LIMIT 10000
    FOR UPDATE SKIP LOCKED
  );
  GET DIAGNOSTICS step = ROW_COUNT;
  RETURN deleted + step;
END
$$;

-- Deletes what is left in the manifest of batches whose rows are gone, and that were dealt with more than an hour ago.
-- Those of failures stay with them, those of a family as long as one of it is pending. So do those that were delivered
-- since the first attempt of one that is: they are counted to tell how many tokens ClickHouse has seen since. And the
-- newest, which says when the last delivery was.
CREATE FUNCTION outbox.forget_batches() RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  DELETE FROM outbox.batch AS old
  WHERE state <> 'pending'
    AND coalesce(delivered_at, sealed_at) < least(
      (SELECT min(first_attempt_at) FROM outbox.batch WHERE state = 'pending'), clock_timestamp() - interval '1 hour'
    )
    AND NOT EXISTS (
      SELECT FROM outbox.slot
      WHERE slot.slot = ANY (old.slots) AND coalesce(emptied_at, '-infinity') <= old.sealed_at
    )
    AND NOT EXISTS (
      SELECT FROM outbox.batch AS pending
      WHERE pending.state = 'pending' AND pending.origin_id = coalesce(old.origin_id, old.id)
    )
    AND NOT EXISTS (SELECT FROM outbox.batch_failure WHERE batch_failure.batch_id = old.id)
    AND delivered_at IS DISTINCT FROM (SELECT max(delivered_at) FROM outbox.batch WHERE state = 'delivered');
END;
