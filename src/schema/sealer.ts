/** How far sealing has come, for those who ask what is not sealed. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import { atomically } from "../Transaction.ts"
import { CURSOR, type Key } from "./keys.ts"
import { PLAN_SETTINGS } from "./rows.ts"

/** A question that hangs would not be asked again. */
const SETTINGS = `
  SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY;
  SET LOCAL statement_timeout = '5s';
  ${PLAN_SETTINGS}`

/**
 * With one snapshot for all statements: where sealing has come to, and what there is beyond it. Two statements, because
 * what is joined to the sealer's row is not looked up in an index.
 */
export const consistently = (sql: SqlClient.SqlClient) => atomically(sql, SETTINGS)

export interface Sealer {
  readonly sealed: string
  /** The end of the window that is being cut; null if none is. */
  readonly window: string | null
  /** The last row of that window that is in a batch. */
  readonly cursor: Key | null
  /** How many ids were given since. */
  readonly unsealed: string
}

export const readSealer = (sql: SqlClient.SqlClient): Effect.Effect<Sealer, SqlError> =>
  // The sequence may be ahead of the snapshot: what was published meanwhile counts already.
  sql<Sealer>`
    SELECT
      sealed_snapshot::text AS sealed,
      window_snapshot::text AS "window",
      ${sql.literal(CURSOR)},
      greatest(CASE WHEN is_called THEN last_value ELSE 0 END - event_position, 0)::text AS unsealed
    FROM outbox.sealer, outbox.event_id_seq
  `.pipe(Effect.flatMap((rows) => Effect.orDie(Arr.head(rows))))
