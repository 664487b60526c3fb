/** Handles messages until it has handled as many as the run has events. */
import { getDisabledLogger, initializePollingMessageListener } from "pg-transactional-outbox"
import { begin, clickHouse, collector, databaseUrl, events, type Row, variable } from "./program.ts"

const messagesAtATime = Number(variable("MESSAGES_AT_A_TIME"))

const collect = collector(messagesAtATime, 10)
const isRow = (payload: unknown): payload is Row => typeof payload === "object" && payload !== null
let done = 0
let finish = () => {}
const finished = new Promise<void>((resolve) => {
  finish = resolve
})

await begin()
const connection = { connectionString: databaseUrl, max: messagesAtATime }
const [shutdown] = initializePollingMessageListener(
  {
    outboxOrInbox: "outbox",
    dbListenerConfig: connection,
    dbHandlerConfig: connection,
    settings: {
      dbSchema: "messages",
      dbTable: "outbox",
      nextMessagesFunctionSchema: "messages",
      nextMessagesFunctionName: "next_outbox_messages",
      nextMessagesBatchSize: messagesAtATime,
      nextMessagesPollingIntervalInMs: 10,
      // Its defaults.
      enableMaxAttemptsProtection: true,
      enablePoisonousMessageProtection: true
    }
  },
  {
    handle: async ({ payload }) => {
      if (!isRow(payload)) throw new Error("A message without an event")
      await collect(payload)
      done++
      // Its transaction marks the message when this has returned.
      if (done === events) setTimeout(finish, 1_000)
    }
  },
  getDisabledLogger(),
  {
    // It asks for as many as have been handled, each time one has: whole batches spare it most of its looks.
    batchSizeStrategy: async (processing) => {
      if (processing > 0) await new Promise(setImmediate)
      return processing === 0 ? messagesAtATime : 0
    }
  }
)
await finished
await shutdown()
await clickHouse.close()
