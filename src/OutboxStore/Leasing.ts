/**
 * Leasing: who may deliver a batch, and what came of it. Each change is one statement: it happens whole or not at all.
 *
 * | state | stored as | becomes | by |
 * | --- | --- | --- | --- |
 * | sealed | `pending`, no error | leased | `lease` |
 * | leased | `pending`, a lease that has not run out | leased for another term | `renew` |
 * | | | delivered | `acknowledge`, or `republish` where ClickHouse has a part of it and refuses the rest |
 * | | | retrying or blocked, by the class of the error | `release` |
 * | | | what it was before, and in doubt | `abandon` |
 * | | | split, or failed | `split`, `fail` |
 * | | | retrying, leased by another and in doubt | `lease`, once the lease has run out |
 * | retrying, blocked | `pending`, with an error | leased | `lease`, once `available_at` has come |
 * | delivered | `delivered` | retrying, and ClickHouse is asked first | `outbox.requeue`, which operators call |
 * | split, failed | `split`, `failed` | nothing else | |
 *
 * While relays are paused no batch becomes leased. A batch is in doubt while more attempts were begun than ended in an
 * answer from which it is certain that nothing was written.
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import type * as Arr from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { Batch, BatchId, Lease, Repair } from "../Batch.ts"
import type * as Config from "../Config.ts"
import type { EventId } from "../Event.ts"
import type { SinkError } from "../SinkError.ts"
import { BATCH_COLUMNS } from "../schema/batches.ts"
import { firstRowOf, interval, millis } from "../schema/columns.ts"
import { IS_FOREIGN, IS_NEW_TIMELINE } from "../schema/compatibility.ts"
import type * as Incidents from "./Incidents.ts"
import type { LeaseLost, SinceFirstAttempt } from "./model.ts"
import { DELIVERED, DURABLY, failedBecause, isOwner, orLost, withoutNul } from "./underLease.ts"

export interface Release {
  readonly error: SinkError
  readonly retryAfter: Duration.Duration
  /** A batch that has been failing for longer is part of an incident. */
  readonly incidentAfter: Duration.Duration
}

const LeaseRow = Schema.Struct({
  ...Batch.fields,
  leaseId: Schema.UUID,
  attempt: Schema.Int,
  inDoubt: Schema.Boolean,
  askFirst: Schema.Boolean,
  wasRequeued: Schema.Boolean,
  expired: Schema.Boolean,
  repairToken: Schema.NullOr(Schema.UUID),
  repairEventIds: Schema.NullOr(Repair.fields.eventIds)
})

const Owned = Schema.Struct({ id: BatchId })
const Attempts = Schema.Struct({ parts: Schema.Number, millis: Schema.Number })
const Planned = Schema.Struct({ token: Schema.UUID })
const Acknowledged = Schema.Struct({ endsIncident: Schema.Boolean, millis: Schema.Number })
const Released = Schema.Struct({
  leftIncident: Schema.Boolean,
  /** The incident that this opened. */
  opened: Schema.NullOr(Schema.Int),
  beganAt: Schema.DateFromNumber
})

export const make = (
  sql: SqlClient.SqlClient,
  { lease: term }: Pick<Config.Outbox, "lease">,
  incidents: ReturnType<typeof Incidents.make>
) => {
  /**
   * SKIP LOCKED gives every worker another row; under the row lock the condition is checked again on its newest
   * version, so a batch that was leased in between is not leased twice. A worker that is killed leaves no trace but its
   * lease: whoever takes that over writes down that the attempt failed. In another database than the outbox was written
   * in there is nothing to lease, and the next look of the sealer says why.
   */
  const lease = Effect.fn("OutboxStore.lease")((owner: string) =>
    sql`
      WITH free AS (
        SELECT
          id,
          attempts > settled_attempts AS in_doubt,
          -- Of a new timeline the sealer may not have told yet.
          ask_first OR (SELECT ${sql.literal(IS_NEW_TIMELINE)} FROM outbox.sealer) AS ask_first,
          lease_id IS NOT NULL AS expired,
          lease_owner
        FROM outbox.batch
        WHERE state = 'pending'
          AND available_at <= clock_timestamp()
          AND NOT EXISTS (SELECT FROM outbox.relay_pause)
          AND NOT (SELECT ${sql.literal(IS_FOREIGN)} FROM outbox.sealer)
        -- What was requeued was there before: new events do not wait for it.
        ORDER BY was_delivered_at IS NOT NULL, id
        LIMIT 1
        FOR UPDATE SKIP LOCKED
      )
      UPDATE outbox.batch SET
        lease_id = gen_random_uuid(),
        ask_first = free.ask_first,
        lease_owner = ${owner},
        available_at = clock_timestamp() + ${interval(sql, term)},
        attempts = attempts + 1,
        first_attempt_at = coalesce(first_attempt_at, clock_timestamp()),
        last_attempt_at = clock_timestamp(),
        first_error_at = CASE WHEN expired THEN coalesce(first_error_at, clock_timestamp()) ELSE first_error_at END,
        error_class = CASE WHEN expired THEN 'in-doubt' ELSE error_class END,
        error_code = CASE WHEN expired THEN NULL ELSE error_code END,
        error_message = CASE
          WHEN expired THEN format('Its worker went silent and was given up (%s)', free.lease_owner)
          ELSE error_message
        END
      FROM free
      WHERE batch.id = free.id
      RETURNING
        ${sql.literal(BATCH_COLUMNS)},
        batch.lease_id AS "leaseId",
        batch.attempts AS "attempt",
        free.in_doubt OR free.ask_first AS "inDoubt",
        batch.ask_first AS "askFirst",
        batch.was_delivered_at IS NOT NULL AS "wasRequeued",
        free.expired AS "expired",
        batch.repair_token AS "repairToken",
        batch.repair_event_ids AS "repairEventIds",
        ${sql.literal(DURABLY)}
    `.pipe(firstRowOf(LeaseRow), Effect.map(Option.map(toLease)))
  )

  const renew = (lease: Lease): Effect.Effect<void, LeaseLost | SqlError> =>
    sql`
      UPDATE outbox.batch SET available_at = clock_timestamp() + ${interval(sql, term)}
      WHERE ${isOwner(sql, lease)}
      RETURNING id::float8 AS id
    `.pipe(firstRowOf(Owned), Effect.flatMap(orLost(lease)), Effect.asVoid)

  /**
   * An index range of the manifest, and asked only when a batch is in doubt. A worker that was frozen may ask for a batch
   * that was delivered meanwhile and has left the manifest: its lease is another's, like any that was taken over.
   */
  const sinceFirstAttempt = (lease: Lease): Effect.Effect<SinceFirstAttempt, LeaseLost | SqlError> => {
    const month = (timestamp: string) =>
      `(12 * extract(year FROM ${timestamp} AT TIME ZONE 'UTC') + extract(month FROM ${timestamp} AT TIME ZONE 'UTC'))`
    const parts = sql.literal(
      `least(event_count, 1 + ${month("last_event_date_time")} - ${month("first_event_date_time")})`
    )
    return sql`
      WITH own AS (
        SELECT first_attempt_at, ${parts} AS parts FROM outbox.batch WHERE ${isOwner(sql, lease)}
      ),
      others AS (
        SELECT coalesce(sum(${parts} * CASE WHEN repair_token IS NULL THEN 1 ELSE 2 END), 0) AS parts
        FROM outbox.batch
        WHERE state = 'delivered' AND delivered_at >= (SELECT first_attempt_at FROM own)
      )
      SELECT
        (others.parts + own.parts * ${lease.attempt})::float8 AS parts,
        (extract(epoch FROM clock_timestamp() - own.first_attempt_at) * 1000)::float8 AS millis
      FROM own, others
    `.pipe(
      firstRowOf(Attempts),
      Effect.flatMap(orLost(lease)),
      Effect.map(({ millis, parts }) => ({ parts, elapsed: Duration.millis(millis) }))
    )
  }

  const planRepair = Effect.fn("OutboxStore.planRepair")((lease: Lease, missing: Arr.NonEmptyReadonlyArray<EventId>) =>
    sql`
        UPDATE outbox.batch SET repair_token = gen_random_uuid(), repair_event_ids = ${missing}::uuid[]
        WHERE ${isOwner(sql, lease)}
        RETURNING repair_token AS token, ${sql.literal(DURABLY)}
      `.pipe(
      firstRowOf(Planned),
      Effect.flatMap(orLost(lease)),
      Effect.map(({ token }) => new Repair({ token, eventIds: missing }))
    )
  )

  const acknowledge = Effect.fn("OutboxStore.acknowledge")((lease: Lease) =>
    sql`
      UPDATE outbox.batch SET ${sql.literal(DELIVERED)}
      WHERE ${isOwner(sql, lease)}
      RETURNING
        incident_id IS NOT NULL AS "endsIncident",
        (extract(epoch FROM delivered_at - first_published_at) * 1000)::float8 AS millis
    `.pipe(
      firstRowOf(Acknowledged),
      Effect.flatMap(orLost(lease)),
      Effect.tap(({ endsIncident }) => Effect.when(incidents.close, () => endsIncident)),
      Effect.map(({ millis }) => Duration.millis(millis))
    )
  )

  /**
   * The row is locked before the incident is joined, so only who holds the lease joins one. A batch that was split off
   * another has its error from there, and fails itself since it was first tried.
   */
  const release = Effect.fn("OutboxStore.release")((lease: Lease, { error, incidentAfter, retryAfter }: Release) =>
    sql`
      WITH failing AS (
        SELECT id, incident_id, attempts, ${incidents.failingSince} AS since
        FROM outbox.batch
        WHERE ${isOwner(sql, lease)}
        FOR UPDATE
      ),
      failed AS (
        SELECT
          ${incidents.classOf(sql`${error.errorClass}::text`)} AS error_class,
          ${error.code ?? null}::integer AS error_code,
          ${withoutNul(error.reason)}::text AS error_message,
          since,
          CASE WHEN incident_id IS NULL THEN attempts ELSE 1 END AS attempts
        FROM failing
        WHERE clock_timestamp() - since >= ${interval(sql, incidentAfter)}
      ),
      ${incidents.join}
      UPDATE outbox.batch SET
        available_at = clock_timestamp() + ${interval(sql, retryAfter)},
        lease_id = NULL,
        settled_attempts = settled_attempts + ${error.settled ? 1 : 0},
        ${failedBecause(sql, error)},
        incident_id = coalesce(incident.id, batch.incident_id)
      FROM failing
      LEFT JOIN incident ON true
      WHERE batch.id = failing.id
      RETURNING
        coalesce(failing.incident_id <> incident.id, false) AS "leftIncident",
        (CASE WHEN incident.is_new THEN incident.id END)::float8 AS opened,
        ${sql.literal(millis("coalesce(incident.began_at, failing.since)"))} AS "beganAt"
    `.pipe(
      firstRowOf(Released),
      Effect.flatMap(orLost(lease)),
      Effect.tap(({ leftIncident }) => Effect.when(incidents.close, () => leftIncident)),
      Effect.flatMap(({ beganAt, opened }) =>
        opened === null
          ? Effect.void
          : incidents.logOpened({ id: opened, errorClass: error.errorClass, message: error.message, beganAt })
      )
    )
  )

  const abandon = Effect.fn("OutboxStore.abandon")((lease: Lease) =>
    sql`
      UPDATE outbox.batch SET available_at = clock_timestamp(), lease_id = NULL
      WHERE ${isOwner(sql, lease)}
      RETURNING id::float8 AS id
    `.pipe(firstRowOf(Owned), Effect.flatMap(orLost(lease)), Effect.asVoid)
  )

  return { lease, renew, sinceFirstAttempt, planRepair, acknowledge, release, abandon }
}

const toLease = ({
  askFirst,
  attempt,
  expired,
  inDoubt,
  leaseId,
  repairEventIds,
  repairToken,
  wasRequeued,
  ...batch
}: typeof LeaseRow.Type): Lease =>
  new Lease({
    batch: new Batch(batch),
    leaseId,
    attempt,
    inDoubt,
    askFirst,
    wasRequeued,
    expired,
    repair:
      repairToken === null || repairEventIds === null
        ? Option.none()
        : Option.some(new Repair({ token: repairToken, eventIds: repairEventIds }))
  })
