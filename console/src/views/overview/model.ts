import type { DatabaseState, RelayState } from "../../../../src/internal/databaseState.ts"
import type { Overview } from "../../../../src/Operations/overviewModel.ts"

export type { OutboxStatus } from "../../../../src/schema/status.ts"
export type { DatabaseState, Overview, RelayState }

export interface Systems {
  readonly postgres: DatabaseState
  readonly clickhouse: DatabaseState
  /** Null while Postgres does not answer. */
  readonly relays: ReadonlyArray<RelayState> | null
}
