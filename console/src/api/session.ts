/** Who uses the console: the token, and the name for the audit trail. */
import { Actor } from "clickhouse-outbox/operator-api"
import * as Schema from "effect/Schema"
import * as Stored from "./stored.ts"

/**
 * `OUTBOX_HTTP_TOKEN`, as the login page was told. In the tab's own storage: a reload keeps it, closing the tab forgets
 * it, and other tabs and later users of the browser never see it. A cookie would be sent along by pages of others.
 */
export const token = Stored.make(() => sessionStorage, "clickhouse-outbox.token")

/** The name in the audit trail. It is no secret, and the same person comes back: it outlives the tab. */
export const operator = Stored.make(() => localStorage, "clickhouse-outbox.operator")

/** What the server takes as `X-Operator`; see `OperatorServer/Api/fields.ts`. */
export const OPERATOR_PATTERN = "[\\x20-\\x7e]{1,255}"

const isActor = Schema.is(Actor)

/** The header of a change. */
export const actor = (): { readonly actor?: Actor } => {
  const name = operator.get()
  return isActor(name) ? { actor: name } : {}
}

const listeners = new Set<() => void>()
let refused = false

const setRefused = (value: boolean) => {
  refused = value
  for (const listener of listeners) listener()
}

/** Whether the server asks for a token that it has not been given. */
export const locked = {
  get: () => refused,
  lock: () => setRefused(true),
  unlock: () => setRefused(false),
  subscribe: (listener: () => void) => {
    listeners.add(listener)
    return () => listeners.delete(listener)
  }
}

export const signIn = (given: string) => {
  token.set(given)
  locked.unlock()
}

export const signOut = () => {
  token.set(null)
  locked.lock()
}
