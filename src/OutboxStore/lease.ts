/** Who may deliver a batch, and what came of it. Each is one statement: it happens whole or not at all. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { Lease, Repair } from "../Batch.ts"
import type * as Config from "../Config.ts"
import type { EventId } from "../Event.ts"
import { batchColumns, decodeBatch } from "../schema/manifest.ts"
import { delivered, durably, interval, isOwner, orLost } from "./held.ts"
import { closeIncidents } from "./incident.ts"
import type { LeaseLost, SinceFirstAttempt } from "./model.ts"

const LeaseRow = Schema.Struct({
  leaseId: Schema.UUID,
  attempt: Schema.Int,
  inDoubt: Schema.Boolean,
  askFirst: Schema.Boolean,
  wasRequeued: Schema.Boolean,
  expired: Schema.Boolean,
  repairToken: Schema.NullOr(Schema.UUID),
  repairEventIds: Schema.NullOr(Repair.fields.eventIds)
})

export const lease =
  (sql: SqlClient.SqlClient, config: Config.Outbox) =>
  (holder: string): Effect.Effect<Option.Option<Lease>, SqlError> =>
    // SKIP LOCKED gives every worker another row; under the row lock the condition is checked again on its newest
    // version, so a batch that was leased in between is not leased twice. A worker that is killed leaves no trace but
    // its lease: whoever takes that over writes down that the attempt failed.
    sql`
      WITH free AS (
        SELECT
          id,
          attempts > settled_attempts AS in_doubt,
          -- Of a new timeline the sealer may not have told yet.
          ask_first OR (SELECT timeline <> outbox.current_timeline() FROM outbox.sealer) AS ask_first,
          lease_id IS NOT NULL AS expired,
          lease_holder
        FROM outbox.batch
        WHERE state = 'pending'
          AND available_at <= clock_timestamp()
          AND NOT EXISTS (SELECT FROM outbox.relay_pause)
        -- What was requeued was there before: new events do not wait for it.
        ORDER BY was_delivered_at IS NOT NULL, id
        LIMIT 1
        FOR UPDATE SKIP LOCKED
      )
      UPDATE outbox.batch SET
        lease_id = gen_random_uuid(),
        ask_first = free.ask_first,
        lease_holder = ${holder},
        available_at = clock_timestamp() + ${interval(sql, config.lease)},
        attempts = attempts + 1,
        first_attempt_at = coalesce(first_attempt_at, clock_timestamp()),
        last_attempt_at = clock_timestamp(),
        first_error_at = CASE WHEN expired THEN coalesce(first_error_at, clock_timestamp()) ELSE first_error_at END,
        error_class = CASE WHEN expired THEN 'in-doubt' ELSE error_class END,
        error_code = CASE WHEN expired THEN NULL ELSE error_code END,
        error_message = CASE
          WHEN expired THEN format('Its worker went silent and was given up (%s)', free.lease_holder)
          ELSE error_message
        END
      FROM free
      WHERE batch.id = free.id
      RETURNING
        ${batchColumns(sql)},
        batch.lease_id AS "leaseId",
        batch.attempts AS "attempt",
        free.in_doubt OR free.ask_first AS "inDoubt",
        batch.ask_first AS "askFirst",
        batch.was_delivered_at IS NOT NULL AS "wasRequeued",
        free.expired AS "expired",
        batch.repair_token AS "repairToken",
        batch.repair_event_ids AS "repairEventIds",
        ${durably(sql)}
    `.pipe(
      Effect.flatMap((rows) => Effect.transposeOption(Option.map(Arr.head(rows), decodeLease))),
      Effect.withSpan("OutboxStore.lease")
    )

const decodeLease = (row: unknown): Effect.Effect<Lease> =>
  Effect.gen(function* () {
    const batch = yield* decodeBatch(row)
    const { repairEventIds, repairToken, ...rest } = yield* Effect.orDie(Schema.decodeUnknown(LeaseRow)(row))
    const repair =
      repairToken === null || repairEventIds === null
        ? Option.none()
        : Option.some(new Repair({ token: repairToken, eventIds: repairEventIds }))
    return new Lease({ ...rest, batch, repair })
  })

export const renew =
  (sql: SqlClient.SqlClient, config: Config.Outbox) =>
  (lease: Lease): Effect.Effect<void, LeaseLost | SqlError> =>
    sql`
      UPDATE outbox.batch SET available_at = clock_timestamp() + ${interval(sql, config.lease)}
      WHERE ${isOwner(sql, lease)}
      RETURNING id
    `.pipe(Effect.flatMap(orLost(lease)), Effect.asVoid)

export const sinceFirstAttempt =
  (sql: SqlClient.SqlClient) =>
  ({ attempt, batch }: Lease): Effect.Effect<SinceFirstAttempt, SqlError> => {
    const month = (timestamp: string) =>
      `(12 * extract(year FROM ${timestamp} AT TIME ZONE 'UTC') + extract(month FROM ${timestamp} AT TIME ZONE 'UTC'))`
    const parts = sql.literal(
      `least(event_count, 1 + ${month("last_event_date_time")} - ${month("first_event_date_time")})`
    )
    // An index range of the manifest, and asked only when a batch is in doubt.
    return sql<{ parts: number; millis: number }>`
      WITH own AS (
        SELECT first_attempt_at, ${parts} AS parts FROM outbox.batch WHERE id = ${batch.id}
      ),
      others AS (
        SELECT coalesce(sum(${parts} * CASE WHEN repair_token IS NULL THEN 1 ELSE 2 END), 0) AS parts
        FROM outbox.batch
        WHERE state = 'delivered' AND delivered_at >= (SELECT first_attempt_at FROM own)
      )
      SELECT
        (others.parts + own.parts * ${attempt})::float8 AS parts,
        (extract(epoch FROM clock_timestamp() - own.first_attempt_at) * 1000)::float8 AS millis
      FROM own, others
    `.pipe(
      Effect.flatMap((rows) => Effect.orDie(Arr.head(rows))),
      Effect.map(({ millis, parts }) => ({ parts, elapsed: Duration.millis(millis) }))
    )
  }

export const planRepair =
  (sql: SqlClient.SqlClient) =>
  (lease: Lease, missing: readonly [EventId, ...ReadonlyArray<EventId>]): Effect.Effect<Repair, LeaseLost | SqlError> =>
    sql<{ token: string }>`
      UPDATE outbox.batch SET repair_token = gen_random_uuid(), repair_event_ids = ${missing}::uuid[]
      WHERE ${isOwner(sql, lease)}
      RETURNING repair_token AS token, ${durably(sql)}
    `.pipe(
      Effect.flatMap(orLost(lease)),
      Effect.map(({ token }) => new Repair({ token, eventIds: missing })),
      Effect.withSpan("OutboxStore.planRepair")
    )

export const acknowledge =
  (sql: SqlClient.SqlClient) =>
  (lease: Lease): Effect.Effect<Duration.Duration, LeaseLost | SqlError> =>
    sql<{ endsIncident: boolean; millis: number }>`
      UPDATE outbox.batch SET ${delivered(sql)}
      WHERE ${isOwner(sql, lease)}
      RETURNING
        incident_id IS NOT NULL AS "endsIncident",
        (extract(epoch FROM delivered_at - first_published_at) * 1000)::float8 AS millis
    `.pipe(
      Effect.flatMap(orLost(lease)),
      Effect.tap(({ endsIncident }) => Effect.when(closeIncidents(sql), () => endsIncident)),
      Effect.map(({ millis }) => Duration.millis(millis)),
      Effect.withSpan("OutboxStore.acknowledge")
    )

export const abandon =
  (sql: SqlClient.SqlClient) =>
  (lease: Lease): Effect.Effect<void, LeaseLost | SqlError> =>
    sql`
      UPDATE outbox.batch SET available_at = clock_timestamp(), lease_id = NULL
      WHERE ${isOwner(sql, lease)}
      RETURNING id
    `.pipe(Effect.flatMap(orLost(lease)), Effect.asVoid, Effect.withSpan("OutboxStore.abandon"))
