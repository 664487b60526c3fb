/** Reading: a sealed batch as the bytes ClickHouse takes. */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type * as Stream from "effect/Stream"
import type { Batch, Repair } from "../Batch.ts"
import type { EventId } from "../Event.ts"
import type { Postgres } from "../Postgres.ts"
import { collectIds, copyRows, retained, SINK_COLUMNS } from "../schema/batchCopy.ts"
import { rows, withEventIds } from "../schema/events.ts"
import { BatchChanged } from "./model.ts"

export const make = (postgres: typeof Postgres.Service) => ({
  read: (batch: Batch): Stream.Stream<Uint8Array, SqlError | BatchChanged> =>
    copyRows(postgres, rows(batch, SINK_COLUMNS), expecting(batch, batch.eventCount)),

  readRepair: (batch: Batch, { eventIds }: Repair): Stream.Stream<Uint8Array, SqlError | BatchChanged> =>
    copyRows(postgres, rows(batch, SINK_COLUMNS, withEventIds(eventIds)), expecting(batch, eventIds.length)),

  eventIds: (batch: Batch): Effect.Effect<ReadonlyArray<EventId>, SqlError | BatchChanged> =>
    collectIds(copyRows(postgres, rows(batch, "event_id"), expecting(batch, batch.eventCount))),

  retainedEventIds: (batch: Batch): Effect.Effect<ReadonlyArray<EventId>, SqlError> =>
    collectIds(copyRows(postgres, rows(batch, "event_id", retained(batch))))
})

const expecting = (batch: Batch, expected: number) => (actual: number) =>
  actual === expected ? Effect.void : new BatchChanged({ batchId: batch.id, expected, actual })
