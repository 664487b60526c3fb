/** Retention: what was closed, or written down, long enough ago is deleted. Events are not: see `Slots.ts`. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import type { Fragment } from "@effect/sql/Statement"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { interval, rowOf } from "../schema/columns.ts"
import { atomically } from "../Transaction.ts"

/** A relay that freezes here must not keep the lock. */
const SETTINGS = `
  SET TRANSACTION ISOLATION LEVEL READ COMMITTED READ WRITE`

const FAILURES_PER_STEP = 100
const ROWS_PER_STEP = 10_000

const Lock = Schema.Struct({ isOurs: Schema.Boolean })

export const make = (sql: SqlClient.SqlClient) => {
  /** Failures, incidents and the audit trail. */
  const deleteClosed = (retention: Duration.Duration): Effect.Effect<void, SqlError> => {
    const tooOld = sql`< clock_timestamp() - ${interval(sql, retention)}`
    return Effect.forEach([deleteFailures, deleteIncidents, deleteAudit], (step) => inSteps(step(tooOld)), {
      discard: true
    })
  }

  /** Each step is a transaction of its own, as long as there is something to delete and no other relay is at it. */
  const inSteps = (step: Effect.Effect<ReadonlyArray<unknown>, SqlError>) =>
    Effect.gen(function* () {
      const { isOurs } = yield* lock
      return isOurs && (yield* step).length > 0
    }).pipe(atomically(sql, SETTINGS), Effect.repeat({ while: (deletedAny) => deletedAny }))

  const lock = rowOf(Lock)(
    sql`SELECT pg_try_advisory_xact_lock(hashtext('clickhouse-outbox'), hashtext('retention')) AS "isOurs"`
  )

  /**
   * Its events go with it, so a step ends where they become many: one failure may hold a whole batch. One that is
   * reopened meanwhile stays: the outer conditions are checked again on the newest version of a row that was locked.
   */
  const deleteFailures = (tooOld: Fragment) => sql`
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

  const deleteIncidents = (tooOld: Fragment) => sql`
    DELETE FROM outbox.incident
    WHERE id IN (
      SELECT id FROM outbox.incident WHERE closed_at ${tooOld} ORDER BY closed_at LIMIT ${ROWS_PER_STEP}
    )
    RETURNING id
  `

  /** As long as the failure is there, what was done about it is. */
  const deleteAudit = (tooOld: Fragment) => sql`
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

  return { deleteClosed }
}
