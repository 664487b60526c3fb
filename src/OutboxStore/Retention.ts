/** Retention: what was closed, or written down, long enough ago is deleted. Events are not: see `Slots.ts`. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { interval, rowOf } from "../schema/columns.ts"
import { atomically } from "../Transaction.ts"

/** A relay that freezes here must not keep the locks of rows. */
const SETTINGS = `
  SET TRANSACTION ISOLATION LEVEL READ COMMITTED READ WRITE`

const Step = Schema.Struct({ deleted: Schema.Int })

export const make = (sql: SqlClient.SqlClient) => ({
  /**
   * Failures, incidents and the audit trail, a step in each transaction, as long as there is something to delete. The
   * function keeps all of it for a day at least, and passes over what another relay deletes at the same time.
   */
  deleteClosed: (retention: Duration.Duration): Effect.Effect<void, SqlError> =>
    rowOf(Step)(sql`SELECT outbox.delete_closed(${interval(sql, retention)})::float8 AS deleted`).pipe(
      atomically(sql, SETTINGS),
      Effect.repeat({ while: ({ deleted }) => deleted > 0 }),
      Effect.asVoid
    )
})
