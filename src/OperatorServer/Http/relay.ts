/** The endpoints of all relays together. */
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { Operations } from "../../Operations.ts"
import type { Ask } from "../Answer.ts"
import { DEFAULT_ACTOR } from "../Api/fields.ts"
import { PauseRequest } from "../Api/relay.ts"
import { Api } from "../Api.ts"
import * as Body from "../Body.ts"

export const relay = (ask: Ask) =>
  HttpApiBuilder.group(Api, "relay", (handlers) =>
    Effect.map(Operations, ({ pause, relayPause, resume }) =>
      handlers
        .handle("state", () => ask(Effect.map(relayPause, (paused) => ({ paused: Option.getOrNull(paused) }))))
        .handleRaw("pause", ({ headers: { actor = DEFAULT_ACTOR }, request }) =>
          Effect.flatMap(Body.json(PauseRequest)(request), ({ reason }) =>
            ask(Effect.map(pause({ reason, actor }), (paused) => ({ paused })))
          )
        )
        .handle("resume", ({ headers: { actor = DEFAULT_ACTOR } }) =>
          ask(Effect.as(resume({ actor }), { paused: null }))
        )
    )
  )
