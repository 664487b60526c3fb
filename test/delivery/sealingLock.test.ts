/** The locks by which one relay at a time seals and gives back space: who can hold them, and what relays say of it. */
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as TestClock from "effect/TestClock"
import * as TestContext from "effect/TestContext"
import * as TestServices from "effect/TestServices"
import * as Config from "../../src/Config.ts"
import { OutboxStore } from "../../src/OutboxStore.ts"
import { sealForever } from "../../src/Relay/sealing.ts"
import * as Environment from "../support/environment.ts"
import * as Login from "../support/login.ts"

const TURNS = [
  { duty: "seal", table: "outbox.sealer" },
  { duty: "reclaim", table: "outbox.slot" }
]

const MODES = [
  "ACCESS SHARE",
  "ROW SHARE",
  "ROW EXCLUSIVE",
  "SHARE UPDATE EXCLUSIVE",
  "SHARE",
  "SHARE ROW EXCLUSIVE",
  "EXCLUSIVE",
  "ACCESS EXCLUSIVE"
]

layer(Environment.layer(), { excludeTestServices: true })("A turn to seal or to give back space", (it) => {
  it.scoped(
    "A turn to seal or to give back space is one session's at a time, until its transaction ends, and assigns no transaction id",
    () =>
      Effect.gen(function* () {
        const { DATABASE_URL = "" } = yield* Environment.Environment
        const one = yield* Login.session({ url: DATABASE_URL })
        const other = yield* Login.session({ url: DATABASE_URL })
        for (const { duty } of TURNS) {
          const turn = `SELECT outbox.take_turn('${duty}') AS taken`
          yield* one("BEGIN")
          expect(yield* one(turn)).toEqual([{ taken: true }])
          yield* other("BEGIN")
          expect(yield* other(turn)).toEqual([{ taken: false }])
          for (const session of [one, other]) {
            expect(yield* session("SELECT pg_current_xact_id_if_assigned() AS id")).toEqual([{ id: null }])
          }
          yield* one("COMMIT")
          expect(yield* other(turn)).toEqual([{ taken: true }])
          yield* other("COMMIT")
        }
      })
  )

  it.scoped(
    "A turn to seal or to give back space is not kept from relays by any lock that publishers, readers, operators or strangers can take",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const store = yield* OutboxStore
        for (const groups of [[], ["outbox_publisher"], ["outbox_reader"], ["outbox_operator"]]) {
          const query = yield* Login.session(yield* Login.make(...groups))
          for (const mode of MODES) {
            for (const { table } of TURNS) {
              yield* query("BEGIN")
              yield* Effect.ignore(query(`LOCK TABLE ${table} IN ${mode} MODE`))
              for (const duty of ["seal", "reclaim", "retention"]) {
                yield* Effect.ignore(
                  query(`SELECT pg_try_advisory_lock(hashtext('clickhouse-outbox'), hashtext('${duty}'))`)
                )
              }
              for (const { duty } of TURNS) yield* Effect.ignore(query(`SELECT outbox.take_turn('${duty}')`))
              for (const { duty } of TURNS) {
                expect({
                  groups,
                  mode,
                  rows: yield* sql`SELECT outbox.take_turn(${duty}) AS taken`
                }).toEqual({ groups, mode, rows: [{ taken: true }] })
              }
              yield* query("ROLLBACK")
            }
          }
          yield* query("SELECT pg_try_advisory_lock(hashtext('clickhouse-outbox'), hashtext('seal'))")
          yield* sql`SELECT outbox.publish('sealed', '{}')`
          expect(yield* store.seal({ flush: true })).toMatchObject({ _tag: "Batch" })
        }
      })
  )
})

layer(Environment.layer(), { excludeTestServices: true })("A relay that cannot seal", (it) => {
  it.scoped("A relay that cannot seal says after a minute that somebody else has the lock", () =>
    Effect.gen(function* () {
      const { DATABASE_URL = "" } = yield* Environment.Environment
      const config = { ...(yield* Config.outbox), ...(yield* Config.relay) }
      const query = yield* Login.session({ url: DATABASE_URL })
      yield* query("BEGIN")
      yield* query("LOCK TABLE outbox.sealer IN SHARE UPDATE EXCLUSIVE MODE")
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
        expect(messages).toEqual([expect.stringContaining("another session of Postgres has the lock of outbox.sealer")])
      }).pipe(Effect.scoped, Effect.provide(TestContext.TestContext))
    })
  )
})
