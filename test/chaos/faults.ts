/** Faults that happen at a moment, whatever the relays are doing. Each lasts as long as it is to, and heals itself. */
import * as SqlClient from "@effect/sql/SqlClient"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { ClickHouse } from "../../src/ClickHouse.ts"
import type { Fault } from "./schedule.ts"
import { World } from "./world.ts"

/** How long a relay may take to get where something is done to it. */
export const PATIENCE = "6 seconds"

/** While a server is down: until it is back. */
const persistently = Effect.retry(Schedule.spaced("50 millis").pipe(Schedule.upTo("60 seconds")))

const command = (statement: string) =>
  Effect.flatMap(ClickHouse, (clickHouse) => clickHouse.command(statement)).pipe(persistently, Effect.orDie)

/** ClickHouse itself refuses inserts, with code 243 or 252, for as long as its table says so. */
const refuseInserts = (setting: string, value: string, millis: number) =>
  Effect.acquireUseRelease(
    command(`ALTER TABLE event_log MODIFY SETTING ${setting} = ${value}`),
    () => Effect.sleep(millis),
    () => command(`ALTER TABLE event_log RESET SETTING ${setting}`)
  )

/** Whether it happened. */
export const inject = (fault: Fault) =>
  Effect.gen(function* () {
    const { crash, interferer, relays, writersProxy } = yield* World
    const relay = "relay" in fault ? relays[fault.relay] : undefined
    const proxy = "server" in fault ? relay?.proxies[fault.server] : undefined
    switch (fault.kind) {
      case "kill":
        relay?.signal("SIGKILL")
        return true
      case "stop":
        relay?.signal("SIGSTOP")
        yield* Effect.sleep(fault.millis)
        relay?.signal("SIGCONT")
        return true
      case "cut":
        yield* proxy?.cut ?? Effect.void
        return true
      case "reset":
        yield* proxy?.reset ?? Effect.void
        return true
      case "cut after bytes":
        return (yield* Effect.timeoutOption(interferer.countBytes(fault), PATIENCE))._tag === "Some"
      case "freeze":
        yield* proxy?.freeze(true) ?? Effect.void
        yield* Effect.sleep(fault.millis)
        yield* proxy?.freeze(false) ?? Effect.void
        return true
      case "slow":
        yield* proxy?.slow(fault.bytesPerSecond) ?? Effect.void
        yield* Effect.sleep(fault.millis)
        yield* proxy?.slow() ?? Effect.void
        return true
      case "clock forward":
        return relay?.setClockForward() ?? false
      case "disk full":
        yield* refuseInserts("min_free_disk_bytes_to_perform_insert", "1000000000000000000", fault.millis)
        return true
      case "too many parts":
        yield* refuseInserts("parts_to_throw_insert", "1", fault.millis)
        return true
      case "an hour passes":
        return yield* anHourPasses
      case "writers cut":
        yield* writersProxy.cut
        return true
      case "crash":
        yield* crash(fault.server, fault.signal, fault.millis)
        return true
    }
  })

/** Of every batch that is in doubt within a second. */
const anHourPasses = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql`
    UPDATE outbox.batch SET first_attempt_at = first_attempt_at - interval '1 hour'
    WHERE state = 'pending' AND first_attempt_at > clock_timestamp() - interval '30 minutes'
    RETURNING id
  `
).pipe(
  Effect.orElseSucceed(() => []),
  Effect.delay("50 millis"),
  Effect.replicateEffect(20),
  Effect.map((aged) => aged.flat().length > 0)
)
