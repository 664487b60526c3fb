/** What time alone changes. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import type { Fragment } from "@effect/sql/Statement"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { atomically } from "../Transaction.ts"
import { interval } from "./held.ts"
import { closeIncidents, openIncidents } from "./incident.ts"
import type { Reclaimed } from "./model.ts"
import { reclaim } from "./reclaim.ts"

export interface Housekeeping {
  /** Delivered events that were published longer ago are removed, by the slot. */
  readonly eventRetention: Duration.Duration
  readonly failureRetention: Duration.Duration
  /** A batch that has been failing for longer is part of an incident. */
  readonly incidentAfter: Duration.Duration
}

export const housekeep =
  (sql: SqlClient.SqlClient) =>
  ({ eventRetention, failureRetention, incidentAfter }: Housekeeping): Effect.Effect<Reclaimed, SqlError> =>
    Effect.gen(function* () {
      yield* openIncidents(sql, incidentAfter)
      yield* closeIncidents(sql)
      const tooOld = sql`< clock_timestamp() - ${interval(sql, failureRetention)}`
      yield* inSteps(sql, deleteFailures(sql, tooOld))
      yield* inSteps(sql, deleteIncidents(sql, tooOld))
      yield* inSteps(sql, deleteAudit(sql, tooOld))
      return yield* reclaim(sql, eventRetention)
    }).pipe(Effect.withSpan("OutboxStore.housekeep"))

/** A relay that freezes here must not keep the lock. */
const SETTINGS = `
  SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
  SET LOCAL idle_in_transaction_session_timeout = '10s'`

/** Each step is a transaction of its own, as long as there is something to delete and no other relay is at it. */
const inSteps = (sql: SqlClient.SqlClient, step: Effect.Effect<ReadonlyArray<unknown>, SqlError>) =>
  Effect.gen(function* () {
    const [lock] = yield* sql<{ mine: boolean }>`
      SELECT pg_try_advisory_xact_lock(hashtext('clickhouse-outbox'), hashtext('housekeep')) AS mine
    `
    return lock?.mine === true ? (yield* step).length > 0 : false
  }).pipe(atomically(sql, SETTINGS), Effect.repeat({ while: (deletedAny) => deletedAny }))

/**
 * Its events go with it, so a step ends where they become many: one failure may hold a whole batch. One that is
 * reopened meanwhile stays: the outer conditions are checked again on the newest version of a row that was locked.
 */
const deleteFailures = (sql: SqlClient.SqlClient, tooOld: Fragment) => sql`
  DELETE FROM outbox.batch_failure
  WHERE id IN (
    SELECT id
    FROM (
      SELECT id, event_count, sum(event_count) OVER (ORDER BY closed_at, id) AS events
      FROM (
        SELECT id, event_count, closed_at
        FROM outbox.batch_failure
        WHERE state <> 'open' AND closed_at ${tooOld}
        ORDER BY closed_at, id
        LIMIT ${FAILURES_PER_STEP}
      ) AS oldest
    ) AS counted
    WHERE events - event_count < ${ROWS_PER_STEP}
  )
    AND state <> 'open'
    AND closed_at ${tooOld}
  RETURNING id
`

const deleteIncidents = (sql: SqlClient.SqlClient, tooOld: Fragment) => sql`
  DELETE FROM outbox.incident
  WHERE id IN (
    SELECT id FROM outbox.incident WHERE closed_at ${tooOld} ORDER BY closed_at LIMIT ${ROWS_PER_STEP}
  )
  RETURNING id
`

/** As long as the failure is there, what was done about it is. */
const deleteAudit = (sql: SqlClient.SqlClient, tooOld: Fragment) => sql`
  DELETE FROM outbox.audit
  WHERE id IN (
    SELECT id
    FROM outbox.audit
    WHERE occurred_at ${tooOld}
      AND NOT EXISTS (SELECT FROM outbox.batch_failure WHERE batch_failure.id = audit.failure_id)
    ORDER BY occurred_at
    LIMIT ${ROWS_PER_STEP}
  )
  RETURNING id
`

const FAILURES_PER_STEP = 100
const ROWS_PER_STEP = 10_000
