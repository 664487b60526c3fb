/** Comparing batches with what ClickHouse has of them. */
import type { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Order from "effect/Order"
import type { Batch } from "../Batch.ts"
import type { Bounds, ClickHouseSink } from "../ClickHouseSink.ts"
import type { EventId } from "../Event.ts"
import type { SinkError } from "../SinkError.ts"

export interface Compared<A extends Batch> {
  readonly batch: A
  /** Those of its events that the outbox still has. */
  readonly retained: number
  readonly missing: ReadonlyArray<EventId>
  readonly doubled: ReadonlyArray<EventId>
}

/** How both databases are asked. */
interface Sides {
  readonly retainedEventIds: (batch: Batch) => Effect.Effect<ReadonlyArray<EventId>, SqlError>
  readonly countRows: (typeof ClickHouseSink.Service)["countRows"]
  /** How often each was published. Costly. */
  readonly countPublished: (eventIds: ReadonlyArray<EventId>) => Effect.Effect<ReadonlyMap<EventId, number>, SqlError>
}

/** How many batches are read at the same time. */
const CONCURRENT_READS = 3

/**
 * Postgres is asked for the ids before ClickHouse is: all of them were taken by then. How often an id was published it is
 * asked afterwards: whatever ClickHouse has was committed before.
 */
export const compare = <A extends Batch>(
  batches: Arr.NonEmptyReadonlyArray<A>,
  { countPublished, countRows, retainedEventIds }: Sides
): Effect.Effect<ReadonlyArray<Compared<A>>, SinkError | SqlError> =>
  Effect.gen(function* () {
    const read = yield* Effect.forEach(
      batches,
      (batch) => Effect.map(retainedEventIds(batch), (eventIds) => ({ batch, eventIds })),
      { concurrency: CONCURRENT_READS }
    )
    const times = new Map<EventId, number>()
    for (const { eventIds } of read) for (const id of eventIds) times.set(id, (times.get(id) ?? 0) + 1)
    const present = yield* countRows(boundsOf(batches), [...times.keys()])
    const seemDoubled = Arr.filter([...present], ([id, rows]) => rows > (times.get(id) ?? 0))
    const published =
      seemDoubled.length === 0 ? new Map<EventId, number>() : yield* countPublished(seemDoubled.map(([id]) => id))
    const doubled = new Set(seemDoubled.flatMap(([id, rows]) => (rows > (published.get(id) ?? 0) ? [id] : [])))
    return read.map(({ batch, eventIds }) => ({
      batch,
      retained: eventIds.length,
      missing: eventIds.filter((id) => !present.has(id)),
      doubled: [...new Set(eventIds.filter((id) => doubled.has(id)))]
    }))
  })

/** Of all of them. The times are of one length, and in the order of their texts. */
const boundsOf = (batches: Arr.NonEmptyReadonlyArray<Batch>): Bounds => ({
  eventTypes: [...new Set(batches.flatMap(({ eventTypes }) => eventTypes))],
  firstEventDateTime: Arr.min(
    Arr.map(batches, ({ firstEventDateTime }) => firstEventDateTime),
    Order.string
  ),
  lastEventDateTime: Arr.max(
    Arr.map(batches, ({ lastEventDateTime }) => lastEventDateTime),
    Order.string
  )
})
