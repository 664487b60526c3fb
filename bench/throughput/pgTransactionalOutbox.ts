/**
 * pg-transactional-outbox: its polling listener, with parallel messages, which its documentation names where order does
 * not matter. https://github.com/Zehelein/pg-transactional-outbox
 *
 * It handles each message in a transaction of its own, on a connection of its own; so many at a time can be inserted
 * together, by a collector in the handler. Its function that finds messages reads all that are pending. Its other
 * listener reads the replication stream, which needs wal_level=logical, and handles messages in the same way.
 */
import { SqlClient } from "@effect/sql"
import { Effect } from "effect"
import { DatabaseSetup } from "pg-transactional-outbox"
import { SELECTED } from "../harness/Source.ts"
import { type Arena, type Contestant, startPrograms } from "./Contestant.ts"

const MESSAGES_AT_A_TIME = 50

const prepare = ({ events, variables }: Arena) =>
  Effect.gen(function* () {
    const setup = {
      outboxOrInbox: "outbox",
      database: new URL(variables.DATABASE_URL).pathname.slice(1),
      schema: "messages",
      table: "outbox",
      listenerRole: "postgres",
      nextMessagesName: "next_outbox_messages"
    } as const
    const sql = yield* SqlClient.SqlClient
    yield* sql.unsafe(DatabaseSetup.dropAndCreateTable(setup))
    yield* sql.unsafe(DatabaseSetup.createPollingFunction(setup))
    yield* sql.unsafe(DatabaseSetup.setupPollingIndexes(setup))
    yield* sql.unsafe(`
      INSERT INTO messages.outbox (id, aggregate_type, aggregate_id, message_type, concurrency, payload)
      SELECT event_id, 'event', event_id, event_type, 'parallel', to_jsonb(event)
      FROM (SELECT ${SELECTED} FROM bench.source WHERE position <= ${events} ORDER BY position) AS event`)
  })

export const contestants: ReadonlyArray<Contestant> = [
  {
    name: "pg-transactional-outbox",
    variant: `polling, ${MESSAGES_AT_A_TIME} messages at a time`,
    about: "0.5: a transaction for each message, a collector in the handler",
    schema: "messages",
    most: [2_000, 10_000],
    prepare,
    start: (arena) =>
      startPrograms("pg-transactional-outbox", "pgTransactionalOutbox", 1, arena, {
        MESSAGES_AT_A_TIME: String(MESSAGES_AT_A_TIME)
      })
  }
]
