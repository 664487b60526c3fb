/**
 * Whether Postgres can be used, and which relays there are.
 *
 * No relay is registered anywhere. One that delivers is known by its leases and by what it has delivered lately, one that
 * has nothing to do by the name of its connections: it touches no table for that.
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { KEPT_CHARACTERS, PREFIX, relayId } from "../internal/relayId.ts"
import { rfc3339, rowOf, rowsOf } from "../schema/columns.ts"
import { HAS_OUTBOX, NotMigrated } from "../schema/compatibility.ts"
import { reachable } from "../schema/reachable.ts"
import { DatabaseState, RelayState } from "../schema/systems.ts"

const Server = Schema.Struct({ version: Schema.String, migrated: Schema.Boolean })

/** A lease's owner is `host/pid/worker`. */
const RELAY = "regexp_replace(lease_owner, '/[^/]*$', '')"

export const make = (sql: SqlClient.SqlClient) => ({
  postgres: sql`
    SELECT current_setting('server_version') AS version, ${sql.literal(HAS_OUTBOX)} AS migrated
  `.pipe(
    rowOf(Server),
    Effect.timed,
    Effect.map(
      ([duration, { migrated, version }]) =>
        new DatabaseState({
          reachable: true,
          migrated,
          reason: migrated ? null : new NotMigrated().message,
          version,
          pingMillis: Duration.toMillis(duration)
        })
    ),
    reachable,
    Effect.withSpan("Operations.postgres")
  ),

  relays: sql`
    WITH session AS (
      -- Everybody may see a name, and whose session it is. The rest is for members of its role.
      SELECT substr(application_name, ${PREFIX.length + 1}) AS kept, count(*) AS connections, min(backend_start) AS since
      FROM pg_stat_activity
      WHERE datname = current_database() AND starts_with(application_name, ${PREFIX})
      GROUP BY 1
    ),
    lease AS (
      SELECT
        ${sql.literal(RELAY)} AS id,
        jsonb_agg(jsonb_build_object(
          'batch_id', id,
          'event_count', event_count,
          'worker', substring(lease_owner FROM '\\d+$')::integer,
          'since', ${sql.literal(rfc3339("last_attempt_at"))},
          'until', ${sql.literal(rfc3339("available_at"))}
        ) ORDER BY id) AS leases
      FROM outbox.batch
      WHERE state = 'pending' AND lease_id IS NOT NULL AND available_at > clock_timestamp()
      GROUP BY 1
    ),
    delivery AS (
      SELECT
        ${sql.literal(RELAY)} AS id,
        count(*)::integer AS batches,
        sum(event_count)::float8 AS events,
        max(delivered_at) AS last
      FROM outbox.batch
      WHERE state = 'delivered' AND delivered_at > clock_timestamp() - interval '15 minutes'
      GROUP BY 1
    ),
    known AS (
      SELECT id FROM lease UNION SELECT id FROM delivery UNION SELECT ${relayId}
    )
    SELECT
      coalesce(known.id, session.kept) AS id,
      coalesce(known.id = ${relayId}, false) AS self,
      coalesce(session.connections, 0)::integer AS connections,
      ${sql.literal(rfc3339("session.since"))} AS connected_since,
      coalesce(lease.leases, '[]') AS leases,
      coalesce(delivery.batches, 0) AS delivered_batches,
      coalesce(delivery.events, 0) AS delivered_events,
      ${sql.literal(rfc3339("delivery.last"))} AS last_delivered_at
    FROM known
    FULL JOIN session ON right(known.id, ${KEPT_CHARACTERS}::integer) = session.kept
    LEFT JOIN lease ON lease.id = known.id
    LEFT JOIN delivery ON delivery.id = known.id
    ORDER BY 1
  `.pipe(rowsOf(RelayState), Effect.withSpan("Operations.relays"))
})
