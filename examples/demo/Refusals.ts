/**
 * Events that are valid to the application and to Postgres, and that ClickHouse refuses: integers of its JSON type have
 * 64 bits. They delay no others, and wait in the console for somebody to correct them.
 */
import { SqlClient } from "@effect/sql"
import { Effect } from "effect"

/** An environment apart from that of the run's own events, all of which have to arrive. */
const ENVIRONMENT = "demo-refused"

const EVENTS = [
  [
    "order_placed",
    `{"order": 48213, "customer": {"name": "Ada Lovelace", "country": "GB"}, "items": [{"sku": "A-100", "quantity": 2}],
      "total": 123456789012345678901, "currency": "EUR"}`
  ],
  ["payment_received", `{"payment": "2026-0042", "amount": 1e30, "currency": "USD"}`],
  ["credit_granted", `{"user": "grace.hopper@example.com", "credits": -99999999999999999999}`]
] as const

export const refuse = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  Effect.forEach(
    EVENTS,
    ([type, context]) => sql`SELECT outbox.publish(${type}, ${context}::jsonb, environment => ${ENVIRONMENT})`,
    { discard: true }
  )
)
