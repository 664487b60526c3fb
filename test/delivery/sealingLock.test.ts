/** Somebody who holds the lock that sealing takes, as anybody with a login can. */
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as TestClock from "effect/TestClock"
import * as TestContext from "effect/TestContext"
import * as TestServices from "effect/TestServices"
import * as Config from "../../src/Config.ts"
import { sealForever } from "../../src/Relay/sealing.ts"
import * as Environment from "../support/environment.ts"
import * as Login from "../support/login.ts"

layer(Environment.layer(), { excludeTestServices: true })("A relay that cannot seal", (it) => {
  it.scoped("says after a minute that somebody else has the lock", () =>
    Effect.gen(function* () {
      const { DATABASE_URL = "" } = yield* Environment.Environment
      const config = { ...(yield* Config.outbox), ...(yield* Config.relay) }
      const query = yield* Login.session({ url: DATABASE_URL })
      yield* query("SELECT pg_advisory_lock(hashtext('clickhouse-outbox'), hashtext('seal'))")
      const messages: Array<string> = []
      const logger = Logger.make(({ message }) => {
        messages.push(String(message))
      })
      const relay = sealForever({ ...config, onBatch: Effect.void, onLook: Effect.void }).pipe(
        Logger.withMinimumLogLevel(LogLevel.Warning),
        Effect.provide(Logger.replace(Logger.defaultLogger, logger))
      )
      // Time passes when the test says so, and Postgres answers when it does.
      const seconds = (count: number) =>
        TestClock.adjust("1 second").pipe(
          Effect.zipRight(TestServices.provideLive(Effect.sleep("20 millis"))),
          Effect.repeatN(count - 1)
        )
      yield* Effect.gen(function* () {
        yield* Effect.forkScoped(relay)
        yield* seconds(50)
        expect(messages).toEqual([])
        yield* Effect.repeat(seconds(1), { until: () => messages.length > 0, times: 1_000 })
        expect(messages).toEqual([expect.stringContaining("another session of Postgres has the advisory lock")])
      }).pipe(Effect.scoped, Effect.provide(TestContext.TestContext))
    })
  )
})
