import type { Overview } from "../../../../src/Operations/overviewModel.ts"
import type { DatabaseState, RelayState } from "../../../../src/Operations/systemsModel.ts"

export type { OutboxStatus } from "../../../../src/OutboxStore/status.ts"
export type { DatabaseState, Overview, RelayState }

export interface Systems {
  readonly postgres: DatabaseState
  readonly clickhouse: DatabaseState
  /** Null while Postgres does not answer. */
  readonly relays: ReadonlyArray<RelayState> | null
}
