import type { Overview } from "../../../../src/schema/overview.ts"
import type { DatabaseState, RelayState } from "../../../../src/schema/systems.ts"

export type { OutboxStatus } from "../../../../src/schema/status.ts"
export type { DatabaseState, Overview, RelayState }

export interface Systems {
  readonly postgres: DatabaseState
  readonly clickhouse: DatabaseState
  /** Null while Postgres does not answer. */
  readonly relays: ReadonlyArray<RelayState> | null
}
