/** Transaction ids belong to one cluster. Whether they still mean what they meant when they were stored. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { type NotMigrated, requireOutbox } from "../NotMigrated.ts"
import { ForeignCluster } from "./model.ts"

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
