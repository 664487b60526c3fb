/** What statements under a lease have in common. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { Fragment } from "@effect/sql/Statement"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Lease } from "../Batch.ts"
import type { SinkError } from "../SinkError.ts"
import { LeaseLost } from "./model.ts"

/** Whether the row is still this lease's. An expired one that nobody has taken yet is, too. */
export const isOwner = (sql: SqlClient.SqlClient, { batch, leaseId }: Lease): Fragment =>
  sql`id = ${batch.id} AND lease_id = ${leaseId} AND state = 'pending'`

/** The row that a statement under the lease returned. Without one, the lease is another worker's. */
export const orLost =
  ({ batch, leaseId }: Lease) =>
  <A>(row: Option.Option<A>): Effect.Effect<A, LeaseLost> =>
    Option.match(row, {
      onNone: () => new LeaseLost({ batchId: batch.id, leaseId }),
      onSome: Effect.succeed
    })

/**
 * Postgres' text has no place for a NUL, and in a database that is not in UTF-8 none for what a message has where it was
 * cut within a character.
 */
export const withoutNul = (text: string): string => text.replaceAll("\0", "").replaceAll("\uFFFD", "?")

/** Why an attempt failed, for the manifest. */
export const failedBecause = (sql: SqlClient.SqlClient, error: SinkError): Fragment => sql`
  error_class = ${error.errorClass},
  error_code = ${error.code ?? null},
  error_message = ${withoutNul(error.reason)},
  first_error_at = coalesce(first_error_at, clock_timestamp())
`

/** Everything in the batch is in ClickHouse, or is another batch's by now. */
export const DELIVERED = `
    state = 'delivered',
    delivered_at = clock_timestamp(),
    lease_id = NULL,
    error_class = NULL,
    error_code = NULL,
    error_message = NULL`

/** Among what is returned: makes the commit wait for the disk, because what follows relies on it after a crash. */
export const DURABLY = "set_config('synchronous_commit', 'on', true)"
