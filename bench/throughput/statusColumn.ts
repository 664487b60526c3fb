/**
 * An outbox as people write it: a table with a status, workers that claim pending rows with FOR UPDATE SKIP LOCKED,
 * insert them as JSONEachRow and mark them in the same transaction. A worker that is killed between the insert and the
 * COMMIT sends its rows again.
 *
 * As good as that gets: an index of the pending rows alone, prepared statements, one UPDATE a batch, rows that go to
 * ClickHouse's client as they come from Postgres'. Two processes, as one of Node's uses one core.
 */
import { SqlClient } from "@effect/sql"
import { Effect } from "effect"
import { type Arena, type Contestant, EVERYTHING, startPrograms } from "./Contestant.ts"

const prepare = ({ events }: Arena) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql.unsafe(`
      CREATE SCHEMA app;
      CREATE TABLE app.outbox (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        event_id uuid NOT NULL,
        event_type text NOT NULL,
        event_date_time timestamptz NOT NULL,
        environment text NOT NULL,
        event_context jsonb NOT NULL,
        metadata_version bigint NOT NULL,
        traceparent text,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        status text NOT NULL DEFAULT 'pending',
        sent_at timestamptz
      );
      CREATE INDEX outbox_pending ON app.outbox (id) WHERE status = 'pending'`)
    yield* sql.unsafe(`
      INSERT INTO app.outbox (
        event_id, event_type, event_date_time, environment, event_context, metadata_version, traceparent
      )
      SELECT event_id, event_type, event_date_time, environment, event_context, metadata_version, traceparent
      FROM bench.source
      WHERE position <= ${events}
      ORDER BY position`)
  })

export const contestants: ReadonlyArray<Contestant> = [1_000, 10_000].map((size) => ({
  name: "status column",
  variant: `batches of ${size.toLocaleString("en")}, 2 processes`,
  about: "SELECT … FOR UPDATE SKIP LOCKED, JSONEachRow, UPDATE … SET status",
  schema: "app",
  most: EVERYTHING,
  prepare,
  start: (arena) => startPrograms("status column", "statusColumn", 2, arena, { BATCH: String(size) })
}))
