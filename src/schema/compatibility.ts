/**
 * Is this my database? Whether it has this release's outbox, and whether the transaction ids and the deliveries that
 * the outbox stores still mean what they meant when they were written.
 *
 * | found | how | what is done |
 * | --- | --- | --- |
 * | no outbox | the newest table is not there | fails with {@link NotMigrated} |
 * | another cluster | a dump was restored, or Postgres upgraded | fails with {@link ForeignCluster}, until `restamp` |
 * | a new timeline | a standby was promoted, or a backup recovered | the sealer enters it; see `OutboxStore/Sealing.ts` |
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { rowOf, rowsOf } from "./columns.ts"

/**
 * The schema `outbox` is not there, or lacks what a later migration adds.
 *
 * @since 0.1.0
 * @category errors
 */
export class NotMigrated extends Schema.TaggedError<NotMigrated>()("NotMigrated", {}) {
  override get message(): string {
    return 'The database has no outbox yet, or one of an older release. Run "clickhouse-outbox migrate"'
  }
}

/**
 * The database was moved to another cluster, as by dump and restore: its stored transaction ids mean nothing here.
 *
 * @since 0.1.0
 * @category errors
 */
export class ForeignCluster extends Schema.TaggedError<ForeignCluster>()("ForeignCluster", {
  expected: Schema.String,
  actual: Schema.String
}) {
  override get message(): string {
    return `The outbox's transaction ids are of ${this.expected}, but this is ${this.actual}. Was the database restored from a dump, or upgraded? Stop all relays and run "clickhouse-outbox restamp", then start them again`
  }
}

/** Looks for the newest table: migrations run in order, so a database that has it has the others. */
export const HAS_OUTBOX = "to_regclass('outbox.audit') IS NOT NULL"

const Found = Schema.Struct({ found: Schema.Boolean })

/** For what works on any cluster. */
export const requireOutbox = (sql: SqlClient.SqlClient): Effect.Effect<void, NotMigrated | SqlError> =>
  Effect.flatMap(rowOf(Found)(sql`SELECT ${sql.literal(HAS_OUTBOX)} AS found`), ({ found }) =>
    found ? Effect.void : new NotMigrated()
  )

const STORED_SNAPSHOT = "coalesce(sealer.window_snapshot, sealer.sealed_snapshot)"

/**
 * A condition on a row of `outbox.sealer`. A cluster never counts backwards: where its next transaction id is below the
 * stored one, that one came from elsewhere.
 */
export const IS_FOREIGN = `(
  sealer.system_identifier <> (SELECT system_identifier FROM pg_control_system())
  OR pg_snapshot_xmax(pg_current_snapshot()) < pg_snapshot_xmax(${STORED_SNAPSHOT})
)`

/** A condition on a row of `outbox.sealer`: commits may have been lost since it was written. */
export const IS_NEW_TIMELINE = "sealer.timeline <> outbox.current_timeline()"

const Clusters = Schema.Struct({ expected: Schema.String, actual: Schema.String })

/** Fails where the outbox is of another cluster. It is there. */
export const requireOwnCluster = (sql: SqlClient.SqlClient): Effect.Effect<void, ForeignCluster | SqlError> =>
  sql`
    SELECT
      format('cluster %s at transaction %s', sealer.system_identifier, pg_snapshot_xmax(${sql.literal(STORED_SNAPSHOT)})) AS expected,
      format('cluster %s at transaction %s', control.system_identifier, pg_snapshot_xmax(pg_current_snapshot())) AS actual
    FROM outbox.sealer, pg_control_system() AS control
    WHERE ${sql.literal(IS_FOREIGN)}
  `.pipe(
    rowsOf(Clusters),
    Effect.flatMap(([foreign]) => (foreign === undefined ? Effect.void : new ForeignCluster(foreign)))
  )

/** What a service asks before it works on an outbox. */
export const requireOwnOutbox = (
  sql: SqlClient.SqlClient
): Effect.Effect<void, ForeignCluster | NotMigrated | SqlError> =>
  Effect.zipRight(requireOutbox(sql), requireOwnCluster(sql))
