/** The endpoints of all relays together. */
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { Operations } from "../../Operations.ts"
import type { Ask } from "../Answer.ts"
import { DEFAULT_ACTOR } from "../Api/fields.ts"
import { HoldRequest } from "../Api/relay.ts"
import { Api } from "../Api.ts"
import * as Body from "../Body.ts"

export const relay = (ask: Ask) =>
  HttpApiBuilder.group(Api, "relay", (handlers) =>
    Effect.map(Operations, ({ hold, relayHold, resume }) =>
      handlers
        .handle("state", () => ask(Effect.map(relayHold, (held) => ({ held: Option.getOrNull(held) }))))
        .handleRaw("hold", ({ headers: { actor = DEFAULT_ACTOR }, request }) =>
          Effect.flatMap(Body.json(HoldRequest)(request), ({ reason }) =>
            ask(Effect.map(hold(reason, actor), (held) => ({ held })))
          )
        )
        .handle("resume", ({ headers: { actor = DEFAULT_ACTOR } }) => ask(Effect.as(resume(actor), { held: null })))
    )
  )
