/** Is this my database? Whether it has this release's outbox, and whether the ids that it stores still mean what they meant. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"

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

/** Looks for the newest table: migrations run in order, so whoever has it has the others. */
export const requireOutbox = (sql: SqlClient.SqlClient): Effect.Effect<void, NotMigrated | SqlError> =>
  sql<{ found: boolean }>`SELECT to_regclass('outbox.audit') IS NOT NULL AS found`.pipe(
    Effect.flatMap(([row]) => (row?.found === true ? Effect.void : new NotMigrated()))
  )

interface Clusters {
  readonly stored: string
  readonly current: string
  readonly behind: boolean
  readonly storedNext: string
  readonly currentNext: string
}

export const checkCluster = (sql: SqlClient.SqlClient): Effect.Effect<void, ForeignCluster | NotMigrated | SqlError> =>
  Effect.gen(function* () {
    yield* requireOutbox(sql)
    // A cluster never counts backwards: ids below those stored mean that the stored ones came from elsewhere.
    const clusters = yield* sql<Clusters>`
      SELECT
        sealer.system_identifier::text AS stored,
        control.system_identifier::text AS current,
        pg_snapshot_xmax(pg_current_snapshot()) < pg_snapshot_xmax(coalesce(window_snapshot, sealed_snapshot)) AS behind,
        pg_snapshot_xmax(coalesce(window_snapshot, sealed_snapshot))::text AS "storedNext",
        pg_snapshot_xmax(pg_current_snapshot())::text AS "currentNext"
      FROM outbox.sealer, pg_control_system() AS control
    `
    const foreign = Option.filter(Arr.head(clusters), ({ behind, current, stored }) => behind || current !== stored)
    if (Option.isSome(foreign)) {
      const { current, currentNext, stored, storedNext } = foreign.value
      return yield* new ForeignCluster({
        expected: `cluster ${stored} at transaction ${storedNext}`,
        actual: `cluster ${current} at transaction ${currentNext}`
      })
    }
  })
