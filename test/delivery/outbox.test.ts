import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Config from "../../src/Config.ts"
import * as Event from "../../src/Event.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import * as Relay from "../../src/Relay.ts"
import { ROW_COLUMNS } from "../../src/schema/events.ts"
import * as Environment from "../support/environment.ts"
import { counts, eventLog } from "../support/eventLog.ts"

const drain = Effect.gen(function* () {
  const relay = yield* Relay.make({ ...(yield* Config.relay), ...(yield* Config.outbox) })
  yield* relay.drain
})

layer(Environment.layer(), { excludeTestServices: true })((it) => {
  it.effect(
    "The path of an event from a transaction to ClickHouse an event of a committed transaction arrives once, as it was published",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const id = yield* sql.withTransaction(
          EventPublisher.publish(
            Event.make({ eventType: "user_created", eventContext: { userId: 1, tags: ["a", "b"] } })
          )
        )
        yield* drain
        expect(yield* eventLog).toEqual([
          expect.objectContaining({
            eventId: id,
            eventType: "user_created",
            environment: "test",
            eventContext: { userId: 1, tags: ["a", "b"] },
            metadataVersion: "1"
          })
        ])
        expect(yield* counts).toEqual({ rows: 1, events: 1 })
      })
  )

  it.effect(
    "The path of an event from a transaction to ClickHouse no column of an event is forgotten where events are copied",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const columns = yield* sql<{ name: string }>`
          SELECT column_name::text AS name FROM information_schema.columns
          WHERE table_schema = 'outbox' AND table_name = 'event'
        `
        expect(
          ROW_COLUMNS.split(",")
            .map((name) => name.trim())
            .toSorted()
        ).toEqual(columns.map(({ name }) => name).toSorted())
      })
  )
})
