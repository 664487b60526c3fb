-- Logins for the programs of docker-compose.yml, each a member of the roles that migrate has made: docs/security.md.
-- Safe to run again. The passwords, which come as settings of the connection, become those of .env each time.
DO $$
DECLARE
  login text;
BEGIN
  FOREACH login IN ARRAY '{relay,app}'::text[] LOOP
    IF to_regrole(login) IS NULL THEN
      EXECUTE format('CREATE ROLE %I', login);
    END IF;
    EXECUTE format(
      'ALTER ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD %L', login, current_setting('compose.' || login)
    );
  END LOOP;
END
$$;

-- It delivers, and its operator API changes what operators change.
GRANT outbox_relay, outbox_operator TO relay;

-- It publishes, brings a relay of its own along, and has a table of its own.
GRANT outbox_publisher, outbox_relay TO app;
GRANT SELECT, INSERT, UPDATE ON public.users TO app;
