-- Who may do what in the outbox. Each migrate runs this after the numbered files. Afterwards these roles may do what is
-- written here and nothing else, whatever was granted to them before.
--
-- They are group roles, to be granted to those that log in, and belong to the whole cluster: the outbox of another
-- database has the same ones.

-- PUBLIC gets nothing: each privilege is granted to a role by name.
REVOKE ALL ON SCHEMA outbox FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA outbox FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA outbox FROM PUBLIC;
REVOKE ALL ON ALL ROUTINES IN SCHEMA outbox FROM PUBLIC;

DO $$
DECLARE
  name text;
  invoker regprocedure;
  type regtype;
BEGIN
  -- A table of anybody's with a column of such a type, a temporary one too, would keep later migrations from changing it.
  -- Rows of tables are types as well; those of arrays go with their elements'.
  FOR type IN
    SELECT oid FROM pg_type WHERE typnamespace = 'outbox'::regnamespace AND typcategory <> 'A'
  LOOP
    EXECUTE format('REVOKE ALL ON TYPE %s FROM PUBLIC CASCADE', type);
    FOREACH name IN ARRAY '{outbox_publisher,outbox_relay,outbox_operator,outbox_reader}'::text[] LOOP
      CONTINUE WHEN to_regrole(name) IS NULL;
      EXECUTE format('REVOKE ALL ON TYPE %s FROM %I CASCADE', type, name);
    END LOOP;
  END LOOP;

  FOREACH name IN ARRAY '{outbox_publisher,outbox_relay,outbox_operator,outbox_reader}'::text[] LOOP
    -- Another database's migrate may create them at the same time. Who may not create roles leaves it to an administrator,
    -- after whom the next migrate grants what is below.
    IF to_regrole(name) IS NULL THEN
      BEGIN
        EXECUTE format('CREATE ROLE %I NOLOGIN', name);
      EXCEPTION WHEN duplicate_object OR unique_violation OR insufficient_privilege THEN
      END;
    END IF;
    CONTINUE WHEN to_regrole(name) IS NULL;
    EXECUTE format('REVOKE ALL ON SCHEMA outbox FROM %I CASCADE', name);
    EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA outbox FROM %I CASCADE', name);
    EXECUTE format('REVOKE ALL ON ALL SEQUENCES IN SCHEMA outbox FROM %I CASCADE', name);
    EXECUTE format('REVOKE ALL ON ALL ROUTINES IN SCHEMA outbox FROM %I CASCADE', name);
    EXECUTE format('GRANT USAGE ON SCHEMA outbox TO %I', name);
    CONTINUE WHEN name = 'outbox_publisher';
    EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA outbox TO %I', name);
    EXECUTE format('GRANT SELECT ON ALL SEQUENCES IN SCHEMA outbox TO %I', name);
    -- They run as the caller, so they give nobody more than the tables do. Views, defaults and domains use them.
    FOR invoker IN
      SELECT oid FROM pg_proc WHERE pronamespace = 'outbox'::regnamespace AND NOT prosecdef
    LOOP
      EXECUTE format('GRANT EXECUTE ON ROUTINE %s TO %I', invoker, name);
    END LOOP;
  END LOOP;

  -- Applications: publish, and nothing else.
  IF to_regrole('outbox_publisher') IS NOT NULL THEN
    GRANT EXECUTE ON FUNCTION outbox.publish, outbox.publish_all TO outbox_publisher;
    GRANT INSERT ON outbox.new_event TO outbox_publisher;
  END IF;

  -- Relays: seal, deliver, set aside what is refused, tidy up. No event can be changed, and none deleted but with its
  -- whole slot; none can be written with a tx_id or an id of one's choice, which say what batch it is in.
  IF to_regrole('outbox_relay') IS NOT NULL THEN
    GRANT INSERT (
      slot, event_id, event_type, event_date_time, environment, event_context, context_bytes, metadata_version, traceparent,
      published_at
    ) ON outbox.event TO outbox_relay;
    GRANT USAGE ON SEQUENCE outbox.event_id_seq TO outbox_relay;
    GRANT TRUNCATE ON outbox.event_slot_0, outbox.event_slot_1, outbox.event_slot_2, outbox.event_slot_3
      TO outbox_relay;
    GRANT UPDATE ON SEQUENCE outbox.event_slot TO outbox_relay;
    GRANT UPDATE ON outbox.sealer, outbox.slot TO outbox_relay;
    GRANT INSERT, UPDATE ON outbox.batch, outbox.incident TO outbox_relay;
    GRANT INSERT ON outbox.batch_failure, outbox.batch_failure_event TO outbox_relay;
    GRANT EXECUTE ON FUNCTION outbox.delete_closed, outbox.forget_batches TO outbox_relay;
  END IF;

  -- Operators: correct and replay what was refused, close it, pause relays, requeue what ClickHouse lost, each by a function
  -- that dates and audits what it does. Nobody can write, change or delete what the audit says by themselves.
  IF to_regrole('outbox_operator') IS NOT NULL THEN
    GRANT EXECUTE ON FUNCTION
      outbox.lock_failures, outbox.correct_event, outbox.replay_events, outbox.close_failures, outbox.reopen_failures,
      outbox.pause_relays, outbox.resume_relays, outbox.requeue
      TO outbox_operator;
    GRANT USAGE ON SEQUENCE outbox.batch_id_seq TO outbox_operator;
  END IF;
END
$$;
