/**
 * Isolation: what becomes of a batch that ClickHouse refuses. The relay decides which of these it is.
 *
 * | the batch | becomes | and its events |
 * | --- | --- | --- |
 * | has several events, of which ClickHouse has none | `split` | are in smaller batches, each once |
 * | the same, when too many of its origin were refused | `split` | are in two batches: those of types of which an event was refused, and all others |
 * | has one event, or after that only events of such types | `failed` | are copied to an open failure |
 * | is in ClickHouse in part | `delivered` | are published again, those that ClickHouse lacks |
 *
 * Each is one transaction that locks the batch under its lease first, so that only who holds the lease changes
 * anything, and all of it or nothing.
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { type Batch, BatchId, FailureId, type Lease } from "../Batch.ts"
import type { EventId } from "../Event.ts"
import type { SinkError } from "../SinkError.ts"
import { firstRowOf, rowOf } from "../schema/columns.ts"
import { EVENT_COLUMNS, PLAN_SETTINGS, ROW_COLUMNS, rows, withEventIds } from "../schema/events.ts"
import { atomically } from "../Transaction.ts"
import type * as Incidents from "./Incidents.ts"
import { BatchChanged, type Kinds, type Refusals } from "./model.ts"
import { DELIVERED, failedBecause, isOwner, orLost } from "./underLease.ts"

export interface Split {
  readonly error: SinkError
  /** Position of the event that ClickHouse named, from 1. Without one, or beyond the batch, the batch is halved. */
  readonly suspect: Option.Option<number>
}

export interface SplitByType {
  readonly error: SinkError
  /** All types of its events in two groups, neither without one. The first is the first to be leased. */
  readonly first: ReadonlyArray<string>
  readonly second: ReadonlyArray<string>
}

export interface Fail {
  readonly error: SinkError
  /** Whether its events were not examined one by one, because too many of its origin's had been refused. */
  readonly parked: boolean
}

const RefusalsRow = Schema.Struct({ refused: Schema.Int, suspectWasGood: Schema.Boolean, batches: Schema.Int })
const KindsRow = Schema.Struct({ suspected: Schema.Array(Schema.String), others: Schema.Array(Schema.String) })
const SplitRow = Schema.Struct({ children: Schema.Array(BatchId), endsIncident: Schema.Boolean })
const SplitByTypeRow = Schema.Struct({ ...SplitRow.fields, events: Schema.Int })
const FailedRow = Schema.Struct({ id: FailureId, endsIncident: Schema.Boolean })
const DeliveredRow = Schema.Struct({ endsIncident: Schema.Boolean })
const Count = Schema.Struct({ count: Schema.Int })

/** On disk before anything is sent: children that were delivered and then forgotten would be made anew, and doubled. */
const SETTINGS = `
  SET TRANSACTION ISOLATION LEVEL READ COMMITTED READ WRITE;
  SET LOCAL synchronous_commit = on;
  ${PLAN_SETTINGS}`

export const make = (sql: SqlClient.SqlClient, incidents: ReturnType<typeof Incidents.make>) => {
  /**
   * Of ranges within each other only the smallest count, so the number never exceeds that of the events refused. Other
   * workers may be isolating parts of the same batch: then it is a little behind.
   */
  const refusals = ({ batch }: Lease): Effect.Effect<Refusals, SqlError> =>
    rowOf(RefusalsRow)(sql`
      WITH origin AS (
        SELECT coalesce(origin_id, id) AS id FROM outbox.batch WHERE id = ${batch.id}
      ),
      family AS (
        SELECT id, parent_id, state, suspect FROM outbox.batch WHERE id = (SELECT id FROM origin)
        UNION ALL
        SELECT id, parent_id, state, suspect FROM outbox.batch WHERE origin_id = (SELECT id FROM origin)
      ),
      refused AS (
        SELECT id, parent_id FROM family WHERE state IN ('split', 'failed') OR (suspect AND state = 'pending')
      )
      SELECT
        (
          SELECT count(*)::integer
          FROM refused
          WHERE NOT EXISTS (SELECT FROM refused AS part WHERE part.parent_id = refused.id)
        ) AS refused,
        EXISTS (SELECT FROM family WHERE suspect AND state = 'delivered') AS "suspectWasGood",
        (SELECT count(*)::integer FROM family) AS batches
    `)

  const split = Effect.fn("OutboxStore.split")(function* (lease: Lease, { error, suspect }: Split) {
    const parts = partsOf(lease.batch.eventCount, suspect)
    const { children, endsIncident } = yield* insertParts(lease, error, parts).pipe(
      Effect.filterOrElse(
        ({ children }) => children.length === parts.length,
        () => changed(lease.batch)
      ),
      atomically(sql, SETTINGS)
    )
    if (endsIncident) yield* incidents.close
    return children
  })

  /**
   * Reads the keys up to the first of the last part: where that ends is known, and what it weighs is what is left. One
   * statement, so that a batch which is not the lease's any more has no parent to insert parts of. The last part is the
   * first to be leased: it is the likeliest to be split again.
   */
  const insertParts = (lease: Lease, error: SinkError, parts: ReadonlyArray<Part>) => {
    const limit = Math.max(...parts.map(({ first }) => first))
    return sql`
      WITH parent AS (
        UPDATE outbox.batch SET
          state = 'split',
          lease_id = NULL,
          settled_attempts = settled_attempts + 1,
          ${failedBecause(sql, error)}
        WHERE ${isOwner(sql, lease)}
        RETURNING *
      ),
      part AS (
        SELECT *
        FROM unnest(
          ${parts.map(({ first }) => first)}::integer[],
          ${parts.map(({ last }) => last)}::integer[],
          ${parts.map(({ suspect }) => suspect)}::boolean[]
        ) AS part (first, last, suspect)
      ),
      key AS MATERIALIZED (
        SELECT *
        FROM (
          SELECT tx_id, id, row_number() OVER keys AS position, sum(context_bytes) OVER keys AS bytes
          FROM (${sql.literal(rows(lease.batch, "tx_id, id, context_bytes", { limit }))}) AS events
          WINDOW keys AS (ORDER BY tx_id, id ROWS UNBOUNDED PRECEDING)
        ) AS numbered
        WHERE position IN (SELECT first FROM part UNION ALL SELECT first - 1 FROM part)
      ),
      child AS (
        INSERT INTO outbox.batch (
          from_snapshot, to_snapshot, first_tx_id, first_id, last_tx_id, last_id, event_count, byte_count, slots,
          event_types, by_type, first_event_date_time, last_event_date_time, first_published_at, traceparents, sealed_at,
          parent_id, origin_id, suspect, attempts_before, first_error_at
        )
        SELECT
          parent.from_snapshot, parent.to_snapshot,
          first.tx_id, first.id, coalesce(last.tx_id, parent.last_tx_id), coalesce(last.id, parent.last_id),
          part.last - part.first + 1, coalesce(last.bytes, parent.byte_count) - coalesce(before.bytes, 0),
          parent.slots, parent.event_types, parent.by_type, parent.first_event_date_time, parent.last_event_date_time, parent.first_published_at,
          parent.traceparents, parent.sealed_at,
          parent.id, coalesce(parent.origin_id, parent.id), part.suspect, parent.attempts_before + parent.attempts,
          parent.first_error_at
        FROM parent
        CROSS JOIN part
        JOIN key AS first ON first.position = part.first
        LEFT JOIN key AS before ON before.position = part.first - 1
        LEFT JOIN key AS last ON last.position = part.last
        ORDER BY part.first DESC
        RETURNING id
      )
      SELECT ARRAY(SELECT id::float8 FROM child ORDER BY child.id) AS children, incident_id IS NOT NULL AS "endsIncident"
      FROM parent
    `.pipe(firstRowOf(SplitRow), Effect.flatMap(orLost(lease)))
  }

  /** A batch is never changed, and the failures of its origin only become more: so it is read before it is locked. */
  const kinds = ({ batch }: Lease, suspect: Option.Option<number>): Effect.Effect<Kinds, SqlError> =>
    rowOf(KindsRow)(sql`
      WITH event AS MATERIALIZED (
        ${sql.literal(rows(batch, "event_type::text AS event_type, row_number() OVER (ORDER BY tx_id, id) AS position"))}
      ),
      known AS (
        -- Of what was refused and has events of one type only, as one that was sent alone.
        SELECT min(event_type::text) AS event_type
        FROM outbox.batch_failure_event
        WHERE failure_id IN (
          SELECT id
          FROM outbox.batch_failure
          WHERE origin_batch_id = (SELECT coalesce(origin_id, id) FROM outbox.batch WHERE id = ${batch.id})
        )
        GROUP BY failure_id
        HAVING min(event_type::text) = max(event_type::text)
        UNION
        SELECT event_type FROM event WHERE position = ${Option.getOrNull(suspect)}::bigint
      )
      SELECT
        coalesce(array_agg(event_type) FILTER (WHERE event_type IN (SELECT event_type FROM known)), '{}') AS suspected,
        coalesce(array_agg(event_type) FILTER (WHERE event_type NOT IN (SELECT event_type FROM known)), '{}') AS others
      FROM (SELECT DISTINCT event_type FROM event) AS type
    `).pipe(atomically(sql, SETTINGS))

  const splitByType = Effect.fn("OutboxStore.splitByType")(function* (lease: Lease, split: SplitByType) {
    const { children, endsIncident } = yield* insertGroups(lease, split).pipe(
      Effect.filterOrElse(
        ({ children, events }) => children.length === 2 && events === lease.batch.eventCount,
        () => changed(lease.batch)
      ),
      atomically(sql, SETTINGS)
    )
    if (endsIncident) yield* incidents.close
    return children
  })

  /**
   * Two batches between the keys of the parent, each with its types. One statement, as in {@link insertParts}.
   */
  const insertGroups = (lease: Lease, { error, first, second }: SplitByType) =>
    sql`
      WITH parent AS (
        UPDATE outbox.batch SET
          state = 'split',
          lease_id = NULL,
          settled_attempts = settled_attempts + 1,
          ${failedBecause(sql, error)}
        WHERE ${isOwner(sql, lease)}
        RETURNING *
      ),
      part AS (
        SELECT
          event_type IN (SELECT unnest(${second}::text[])) AS is_second,
          count(*)::integer AS event_count,
          sum(context_bytes) AS byte_count,
          min(event_date_time) AS first_event_date_time,
          max(event_date_time) AS last_event_date_time,
          min(published_at) AS first_published_at
        FROM (
          ${sql.literal(rows(lease.batch, "event_type::text AS event_type, context_bytes, event_date_time, published_at, tx_id, id"))}
        ) AS event
        GROUP BY 1
      ),
      child AS (
        INSERT INTO outbox.batch (
          from_snapshot, to_snapshot, first_tx_id, first_id, last_tx_id, last_id, event_count, byte_count, slots,
          event_types, by_type, first_event_date_time, last_event_date_time, first_published_at, traceparents, sealed_at,
          parent_id, origin_id, attempts_before, first_error_at
        )
        SELECT
          parent.from_snapshot, parent.to_snapshot,
          parent.first_tx_id, parent.first_id, parent.last_tx_id, parent.last_id,
          part.event_count, part.byte_count, parent.slots,
          CASE WHEN part.is_second THEN ${second}::text[] ELSE ${first}::text[] END, true,
          part.first_event_date_time, part.last_event_date_time, part.first_published_at,
          parent.traceparents, parent.sealed_at,
          parent.id, coalesce(parent.origin_id, parent.id), parent.attempts_before + parent.attempts,
          parent.first_error_at
        FROM parent CROSS JOIN part
        ORDER BY part.is_second
        RETURNING id
      )
      SELECT
        ARRAY(SELECT id::float8 FROM child ORDER BY child.id) AS children,
        (SELECT sum(event_count)::integer FROM part) AS events,
        incident_id IS NOT NULL AS "endsIncident"
      FROM parent
    `.pipe(firstRowOf(SplitByTypeRow), Effect.flatMap(orLost(lease)))

  const fail = Effect.fn("OutboxStore.fail")(function* (lease: Lease, failure: Fail) {
    const { endsIncident, id } = yield* insertFailure(lease, failure).pipe(
      Effect.tap(({ id }) => copyEvents(lease.batch, id)),
      atomically(sql, SETTINGS)
    )
    if (endsIncident) yield* incidents.close
    return id
  })

  /**
   * One statement, so that a batch which is not the lease's any more makes no failure. What an operator has replayed
   * comes back as a new event under the same id.
   */
  const insertFailure = (lease: Lease, { error, parked }: Fail) =>
    sql`
      WITH failed AS (
        UPDATE outbox.batch SET
          state = 'failed',
          lease_id = NULL,
          settled_attempts = settled_attempts + 1,
          ${failedBecause(sql, error)}
        WHERE ${isOwner(sql, lease)}
        RETURNING *
      ),
      failure AS (
        INSERT INTO outbox.batch_failure (
          batch_id, origin_batch_id, event_count, parked, error_class, error_code, error_message,
          first_seen_at, last_seen_at, attempts, previous_failure_id
        )
        SELECT
          id, coalesce(origin_id, id), event_count, ${parked}, error_class, error_code, error_message,
          first_error_at, clock_timestamp(), attempts_before + attempts,
          (
            SELECT max(failure_id)
            FROM outbox.batch_failure_event
            WHERE replayed_at IS NOT NULL AND event_id IN (${sql.literal(rows(lease.batch, "event_id"))})
          )
        FROM failed
        RETURNING id
      )
      SELECT failure.id::float8 AS id, failed.incident_id IS NOT NULL AS "endsIncident" FROM failure, failed
    `.pipe(firstRowOf(FailedRow), Effect.flatMap(orLost(lease)))

  /**
   * The batch's row is locked since it was marked, and its events are never changed: all of them are copied, or none.
   */
  const copyEvents = (batch: Batch, failureId: FailureId) =>
    rowOf(Count)(sql`
      WITH copy AS (
        INSERT INTO outbox.batch_failure_event (failure_id, ${sql.literal(ROW_COLUMNS)})
        ${sql.literal(rows(batch, `${failureId}, ${ROW_COLUMNS}`))}
        RETURNING id
      )
      SELECT count(*)::integer AS count FROM copy
    `).pipe(Effect.flatMap(({ count }) => (count === batch.eventCount ? Effect.void : changed(batch))))

  const republish = Effect.fn("OutboxStore.republish")(function* (
    lease: Lease,
    missing: Arr.NonEmptyReadonlyArray<EventId>
  ) {
    const { endsIncident } = yield* markDelivered(lease, missing).pipe(
      Effect.zipLeft(publishAgain(lease.batch, missing)),
      atomically(sql, SETTINGS)
    )
    if (endsIncident) yield* incidents.close
  })

  const markDelivered = (lease: Lease, missing: ReadonlyArray<EventId>) =>
    sql`
      UPDATE outbox.batch SET
        ${sql.literal(DELIVERED)},
        republished_event_ids = coalesce(republished_event_ids, '{}') || ${missing}::uuid[]
      WHERE ${isOwner(sql, lease)}
      RETURNING incident_id IS NOT NULL AS "endsIncident"
    `.pipe(firstRowOf(DeliveredRow), Effect.flatMap(orLost(lease)))

  /**
   * In the order in which they were published. When they were published is kept: they have waited since then. So they
   * are due at once. Of several events under one id all are missing or none, and each is listed.
   */
  const publishAgain = (batch: Batch, missing: ReadonlyArray<EventId>) =>
    rowOf(Count)(sql`
      WITH published AS (
        INSERT INTO outbox.event (${sql.literal(EVENT_COLUMNS)}, slot)
        SELECT ${sql.literal(EVENT_COLUMNS)}, (SELECT outbox.current_slot())
        FROM (${sql.literal(rows(batch, `${EVENT_COLUMNS}, tx_id, id`, withEventIds(missing)))}) AS events
        ORDER BY tx_id, id
        RETURNING id
      )
      SELECT count(*)::integer AS count FROM published
    `).pipe(Effect.flatMap(({ count }) => (count === missing.length ? Effect.void : changed(batch))))

  const changed = (batch: Batch): Effect.Effect<never, BatchChanged | SqlError> =>
    Effect.flatMap(
      rowOf(Count)(sql`SELECT count(*)::integer AS count FROM (${sql.literal(rows(batch, "event_id"))}) AS events`),
      ({ count }) => new BatchChanged({ batchId: batch.id, expected: batch.eventCount, actual: count })
    )

  return { refusals, kinds, split, splitByType, fail, republish }
}

interface Part {
  /** Positions of its first and last event in the batch, from 1. */
  readonly first: number
  readonly last: number
  readonly suspect: boolean
}

/** A suspect this close to the beginning of its batch means that bad events lie close together. */
const CLOSE_TOGETHER_EVENTS = 250
/** How many events behind such a suspect are one part. */
const CLOSE_TOGETHER_PART_EVENTS = 1_000
const MAX_PARTS_BEHIND_SUSPECT = 8

/**
 * Parts that hold each event once, in order. Each is smaller than the whole, so that splitting comes to an end.
 *
 * What lies behind the suspect is split into parts about as long as the good stretch before it, as further bad events
 * are likely to lie that far apart: what is refused is uploaded to its end all the same, and parts are sent by several
 * workers at once. 50,000 events with 10 bad ones are sent 3 times over, with one part behind each it would be 7; with
 * 100 bad ones 5 times, not 52. Where they lie close together the next thousand are a part: many are found there at
 * little cost, and if all the others are bad too the limit is reached before these were uploaded often.
 */
export const partsOf = (eventCount: number, suspect: Option.Option<number>): ReadonlyArray<Part> =>
  Option.match(
    Option.filter(suspect, (position) => position >= 1 && position <= eventCount),
    {
      onNone: () => evenParts(1, eventCount, 2),
      onSome: (position) => [
        ...evenParts(1, position - 1, 1),
        { first: position, last: position, suspect: true },
        ...(position < CLOSE_TOGETHER_EVENTS
          ? [
              ...evenParts(position + 1, Math.min(position + CLOSE_TOGETHER_PART_EVENTS, eventCount), 1),
              ...evenParts(position + CLOSE_TOGETHER_PART_EVENTS + 1, eventCount, 1)
            ]
          : evenParts(position + 1, eventCount, Math.floor((eventCount - position) / position)))
      ]
    }
  )

/** About so many parts from `first` to `last`, as long as each other, give or take one. None where nothing is. */
const evenParts = (first: number, last: number, wanted: number): ReadonlyArray<Part> => {
  const events = last - first + 1
  const count = Math.min(Math.max(wanted, 1), MAX_PARTS_BEHIND_SUSPECT)
  const start = (n: number) => first + Math.floor((n * events) / count)
  return Arr.makeBy(count, (n) => ({ first: start(n), last: start(n + 1) - 1, suspect: false })).filter(
    (part) => part.first <= part.last
  )
}
