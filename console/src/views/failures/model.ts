import type * as Effect from "effect/Effect"
import type { Client } from "../../api/client.ts"

export type Failure = Effect.Effect.Success<ReturnType<Client["failures"]["list"]>>["failures"][number]
