/** `clickhouse-outbox failures discard`, `… resolve` and `… reopen` */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { BatchFailures, layer } from "../../BatchFailures.ts"
import { actor } from "../actor.ts"
import { failureId, remark } from "../options.ts"
import { withServices } from "../services.ts"
import { each } from "./each.ts"

const failureIds = Args.atLeast(failureId, 1)

export const discard = Command.make(
  "discard",
  { failureIds, reason: remark("reason", "Why, for those who ask later.") },
  ({ failureIds, reason }) =>
    Effect.gen(function* () {
      const { discard } = yield* BatchFailures
      const who = yield* actor
      yield* each(
        failureIds,
        (id) => discard(id, { reason, actor: who }),
        (closed) => Console.log(closed.map(({ id }) => `discarded failure ${id}`).join("\n"))
      )
    }).pipe(withServices(layer))
).pipe(Command.withDescription("Decides that what was not replayed is never delivered."))

export const resolve = Command.make(
  "resolve",
  { failureIds, note: remark("note", "How, for those who ask later.") },
  ({ failureIds, note }) =>
    Effect.gen(function* () {
      const { resolve } = yield* BatchFailures
      const who = yield* actor
      yield* each(
        failureIds,
        (id) => resolve(id, { note, actor: who }),
        (closed) => Console.log(closed.map(({ id }) => `resolved failure ${id}`).join("\n"))
      )
    }).pipe(withServices(layer))
).pipe(Command.withDescription("Writes down that somebody took care of it in another way."))

export const reopen = Command.make("reopen", { failureIds }, ({ failureIds }) =>
  Effect.gen(function* () {
    const { reopen } = yield* BatchFailures
    const who = yield* actor
    yield* each(
      failureIds,
      (id) => reopen(id, { actor: who }),
      (reopened) => Console.log(reopened.map(({ id }) => `reopened failure ${id}`).join("\n"))
    )
  }).pipe(withServices(layer))
).pipe(Command.withDescription("Takes back that it was discarded or resolved. What was replayed stays published."))
