/** The events this service publishes: its contract with whoever queries ClickHouse. */
import { Event } from "clickhouse-outbox"
import { Schema } from "effect"
import { Profile, UserId } from "./User.ts"

export const UserCreated = Event.define({
  eventType: "user_created",
  eventContext: Schema.Struct({
    userId: UserId,
    ...Profile.fields,
    origin: Schema.Literal("registration", "invitation", "import"),
    invitedBy: Schema.optionalWith(UserId, { exact: true })
  })
})
