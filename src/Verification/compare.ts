/** Comparing batches with what ClickHouse has of them. */
import type { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Order from "effect/Order"
import * as Sink from "effect/Sink"
import * as Stream from "effect/Stream"
import type { Batch } from "../Batch.ts"
import type { Bounds, ClickHouseSink, Row } from "../ClickHouseSink.ts"
import { EventId } from "../Event.ts"
import type { SinkError } from "../SinkError.ts"
import type { retainedOf } from "../schema/batchCopy.ts"
import { canonicalRow } from "./contents.ts"

export interface Compared<A extends Batch> {
  readonly batch: A
  /** Those of its events that the outbox still has. */
  readonly retained: number
  readonly missing: ReadonlyArray<EventId>
  readonly doubled: ReadonlyArray<EventId>
  /** Those that ClickHouse has, but no row of that says what the event says. None unless contents are compared. */
  readonly changed: ReadonlyArray<EventId>
}

/** How both databases are asked. */
interface Sides extends Pick<typeof ClickHouseSink.Service, "countRows" | "readRows"> {
  readonly retained: ReturnType<typeof retainedOf>
  /** How often each was published. Costly. */
  readonly countPublished: (eventIds: ReadonlyArray<EventId>) => Effect.Effect<ReadonlyMap<EventId, number>, SqlError>
}

/**
 * Postgres is asked for the ids before ClickHouse is: all of them were taken by then. How often an id was published it is
 * asked afterwards: whatever ClickHouse has was committed before.
 */
export const compare = <A extends Batch>(
  batches: Arr.NonEmptyReadonlyArray<A>,
  { contents, sides }: { readonly contents: boolean; readonly sides: Sides }
): Effect.Effect<ReadonlyArray<Compared<A>>, SinkError | SqlError> =>
  Effect.gen(function* () {
    const read = yield* retainedIds(batches, sides)
    const times = new Map<EventId, number>()
    for (const ids of read.values()) for (const id of ids) times.set(id, (times.get(id) ?? 0) + 1)
    const present = yield* sides.countRows(boundsOf(batches), [...times.keys()])
    const seemDoubled = Arr.filter([...present], ([id, rows]) => rows > (times.get(id) ?? 0))
    const published =
      seemDoubled.length === 0 ? new Map<EventId, number>() : yield* sides.countPublished(seemDoubled.map(([id]) => id))
    const doubled = new Set(seemDoubled.flatMap(([id, rows]) => (rows > (published.get(id) ?? 0) ? [id] : [])))
    const changed = contents ? yield* changedIds(batches, sides) : new Map<number, ReadonlySet<EventId>>()
    return batches.map((batch) => {
      const eventIds = read.get(batch.id) ?? []
      return {
        batch,
        retained: eventIds.length,
        missing: eventIds.filter((id) => !present.has(id)),
        doubled: [...new Set(eventIds.filter((id) => doubled.has(id)))],
        changed: [...(changed.get(batch.id) ?? [])]
      }
    })
  })

/** By the ids of batches. */
const retainedIds = (batches: ReadonlyArray<Batch>, { retained }: Sides) =>
  Stream.runFold(retained(batches, { contents: false }), new Map<number, Array<EventId>>(), (all, row) => {
    const [batchId, eventId = ""] = row
    const ids = all.get(Number(batchId)) ?? []
    ids.push(EventId.make(eventId))
    return all.set(Number(batchId), ids)
  })

/** What is in memory of each database at once, beside one event that is heavier by itself. */
const CHARACTERS_AT_ONCE = 4_000_000
const EVENTS_AT_ONCE = 2_000

/**
 * By the ids of batches. What ClickHouse lacks by now is not changed. One event may have been published twice under one
 * id: it is enough that one row says the same.
 */
const changedIds = (batches: Arr.NonEmptyReadonlyArray<Batch>, { readRows, retained }: Sides) => {
  const bounds = boundsOf(batches)
  return retained(batches, { contents: true }).pipe(
    Stream.map(([batchId, eventId = "", eventType = "", eventDateTime = "", environment = "", ...rest]) => {
      const [eventContext = "", metadataVersion = "", , traceId = ""] = rest
      const row = { eventType, eventDateTime, environment, eventContext, metadataVersion, traceId }
      return { batchId: Number(batchId), eventId: EventId.make(eventId), row }
    }),
    Stream.transduce(
      Sink.foldWeighted({
        initial: Arr.empty<Published>(),
        maxCost: CHARACTERS_AT_ONCE,
        cost: (_, { row }) => row.eventContext.length + CHARACTERS_AT_ONCE / EVENTS_AT_ONCE,
        body: (some, event: Published) => Arr.append(some, event)
      })
    ),
    Stream.runFoldEffect(new Map<number, Set<EventId>>(), (changed, some) =>
      Effect.map(readRows(bounds, [...new Set(some.map(({ eventId }) => eventId))]), (rows) => {
        const said = Arr.groupBy(rows, ({ eventId }) => eventId)
        for (const { batchId, eventId, row } of some) {
          const found = said[eventId]
          if (found === undefined) continue
          const expected = canonicalRow(row)
          if (found.some((row) => canonicalRow(row) === expected)) continue
          changed.set(batchId, (changed.get(batchId) ?? new Set()).add(eventId))
        }
        return changed
      })
    )
  )
}

interface Published {
  readonly batchId: number
  readonly eventId: EventId
  readonly row: Omit<Row, "eventId">
}

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
