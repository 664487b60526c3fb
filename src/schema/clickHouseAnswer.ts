/** What an answer is decoded by: whatever it says, it is a {@link SinkError} and no defect. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { SinkError } from "../SinkError.ts"

export const decode =
  <A, I>(schema: Schema.Schema<A, I>) =>
  (answer: unknown): Effect.Effect<A, SinkError> =>
    Effect.mapError(Schema.decodeUnknown(schema)(answer), () => incomplete)

/** It may be a part of one. */
export const incomplete = new SinkError({
  errorClass: "unknown",
  reason:
    "ClickHouse's answer is not as it was asked for: something between it and the relay, or a setting of the user's profile, changes answers",
  settled: false
})
