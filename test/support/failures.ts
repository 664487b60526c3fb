/** Failures without a relay: published events as the relay leaves those that ClickHouse refuses. */
import * as SqlClient from "@effect/sql/SqlClient"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import { Actor, FailureId } from "../../src/BatchFailures.ts"
import type * as Event from "../../src/Event.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import { OutboxStore } from "../../src/OutboxStore.ts"

/** Who does what an operator does in tests. */
export const ADA = Actor.make("ada")

/** Publishes the events and makes one failure of them all. */
export const make = (events: ReadonlyArray<Event.Event>) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const store = yield* OutboxStore
    const eventIds = yield* EventPublisher.publishAll(events)
    const sealed = yield* store.seal({ flush: true })
    if (sealed._tag !== "Batch") return yield* Effect.dieMessage("Nothing was sealed")
    const batchId = sealed.batch.id
    const [failure] = yield* sql<{ id: number }>`
      INSERT INTO outbox.batch_failure (
        batch_id, origin_batch_id, event_count, parked, error_class, error_code, error_message,
        first_seen_at, last_seen_at, attempts
      )
      VALUES (
        ${batchId}, ${batchId}, ${events.length}, ${events.length > 1}, 'data', 117, 'Code: 117. DB::Exception: on purpose',
        clock_timestamp(), clock_timestamp(), 1
      )
      RETURNING id::integer
    `
    yield* sql`
      INSERT INTO outbox.batch_failure_event (
        failure_id, tx_id, id, slot, event_id, event_type, event_date_time, environment, event_context, context_bytes,
        metadata_version, traceparent, published_at
      )
      SELECT
        ${failure?.id}, tx_id, id, slot, event_id, event_type, event_date_time, environment, event_context, context_bytes,
        metadata_version, traceparent, published_at
      FROM outbox.event
      WHERE event_id = ANY (${eventIds}::uuid[])
    `
    yield* sql`
      UPDATE outbox.batch SET state = 'failed', error_class = 'data', error_code = 117, error_message = 'on purpose'
      WHERE id = ${batchId}
    `
    return { failureId: FailureId.make(failure?.id ?? 0), batchId, eventIds, eventId: Arr.unsafeGet(eventIds, 0) }
  })
