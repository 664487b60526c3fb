/** What statements under a lease have in common. */
import type * as SqlClient from "@effect/sql/SqlClient"
import * as Arr from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Lease } from "../Batch.ts"
import type { SinkError } from "../SinkError.ts"
import { LeaseLost } from "./model.ts"

/** Whether the row is still this lease's. An expired one that nobody has taken yet is, too. */
export const isOwner = (sql: SqlClient.SqlClient, { batch, leaseId }: Lease) =>
  sql`id = ${batch.id} AND lease_id = ${leaseId} AND state = 'pending'`

export const orLost =
  ({ batch, leaseId }: Lease) =>
  <A>(rows: ReadonlyArray<A>): Effect.Effect<A, LeaseLost> =>
    Option.match(Arr.head(rows), {
      onNone: () => new LeaseLost({ batchId: batch.id, leaseId }),
      onSome: Effect.succeed
    })

/** Why an attempt failed, for the manifest. Postgres' text has no place for a NUL. */
export const failedBecause = (sql: SqlClient.SqlClient, error: SinkError) => sql`
  error_class = ${error.errorClass},
  error_code = ${error.code ?? null},
  error_message = ${error.reason.replaceAll("\0", "")},
  first_error_at = coalesce(first_error_at, clock_timestamp())
`

/** Everything in the batch is in ClickHouse, or no longer the batch's affair. */
export const delivered = (sql: SqlClient.SqlClient) =>
  sql.literal(`
    state = 'delivered',
    delivered_at = clock_timestamp(),
    lease_id = NULL,
    error_class = NULL,
    error_code = NULL,
    error_message = NULL`)

/** Among what is returned: makes the commit wait for the disk, because what follows relies on it after a crash. */
export const durably = (sql: SqlClient.SqlClient) => sql.literal("set_config('synchronous_commit', 'on', true)")

export const interval = (sql: SqlClient.SqlClient, duration: Duration.Duration) =>
  sql`${Duration.toMillis(duration)}::float8 * interval '1 millisecond'`
