/** Where the same events go without an outbox: a plain table, as an application would make one. */

/** What the business itself writes. */
export const USERS =
  "CREATE TABLE app.users (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text NOT NULL, plan text NOT NULL)"

/** The outbox's columns and primary key, not partitioned, without checks and without anything to compute. */
export const PLAIN = `
  CREATE TABLE app.event (
    tx_id xid8 NOT NULL DEFAULT pg_current_xact_id(),
    id bigint GENERATED ALWAYS AS IDENTITY,
    slot smallint NOT NULL DEFAULT 0,
    event_id uuid NOT NULL DEFAULT gen_random_uuid(),
    event_type text NOT NULL,
    event_date_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    environment text NOT NULL DEFAULT 'production',
    event_context jsonb NOT NULL,
    metadata_version bigint NOT NULL DEFAULT 1,
    traceparent text,
    published_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    context_bytes integer,
    PRIMARY KEY (tx_id, id, slot)
  )`

/** About 200 bytes, as in the throughput benchmark. */
export const CONTEXT = {
  sequence: 123456,
  user: { id: "c4ca4238a0b9", country: "DE", plan: "pro" },
  order: { items: 3, total: 129.95, paid: true },
  tags: ["web", "mobile"],
  session: "a0b923820dcc509a6f75849b",
  note: "what a sentence says"
}

export const TYPE = "user_created"
