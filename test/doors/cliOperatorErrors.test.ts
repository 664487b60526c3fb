/** What an operator is told who got a command wrong. */
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Cli from "../support/cli.ts"
import * as Environment from "../support/environment.ts"

const UNKNOWN = "0190aaaa-0000-7000-8000-000000000009"

layer(Environment.layer(), { excludeTestServices: true })((it) => {
  it.effect("An operator's command that is wrong says what, and what would be right", () =>
    Effect.gen(function* () {
      const wrong = {
        "where abc": `<EVENT_ID>: must be an event's uuid, not "abc"`,
        [`where ${UNKNOWN}`]: `Event ${UNKNOWN} is neither in the outbox nor in a failure`,
        "failures show x": '<ID>: must be the number of a failure, not "x"',
        "failures list --limit 0": '--limit: must be a whole number from 1, not "0"',
        "failures list --since soon": "--since: must be a time such as 2026-01-31T12:00:00Z, 2026-01-31 or 2h",
        "failures discard 1": "Expected to find option: '--note'",
        "failures replay": "Name either the failures to replay, or --all",
        "failures replay --type a": "What to replay by its properties needs --all",
        "batches show 999": "There is no batch 999"
      }
      const ended = yield* Effect.forEach(Object.keys(wrong), (command) => Cli.run(command.split(" ")), {
        concurrency: 2
      })
      expect(ended).toEqual(Object.values(wrong).map((says) => Cli.failed(expect.stringContaining(says))))
    })
  )
})
