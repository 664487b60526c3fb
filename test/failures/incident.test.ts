/** What keeps batches from getting through although nothing is wrong with them: incidents, pauses, and what is left. */
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Arr from "effect/Array"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as BatchFailures from "../../src/BatchFailures.ts"
import { ClickHouse } from "../../src/ClickHouse.ts"
import * as Config from "../../src/Config.ts"
import * as Event from "../../src/Event.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import { make, OutboxStore } from "../../src/OutboxStore.ts"
import { type ErrorClass, SinkError } from "../../src/SinkError.ts"
import * as Environment from "../support/environment.ts"
import { counts } from "../support/eventLog.ts"
import { batches, isDelivered } from "../support/manifest.ts"
import * as Relay from "../support/relay.ts"
import { until } from "../support/wait.ts"

const publish = EventPublisher.publish(Event.make({ eventType: "incident_tested", eventContext: {} }))

const command = (statement: string) => Effect.flatMap(ClickHouse, (clickHouse) => clickHouse.command(statement))

const incidents = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql<{
    id: number
    error_class: string
    error_message: string
    state: string
    attempts: number
    batch_ids: ReadonlyArray<string>
  }>`
    SELECT id::integer, error_class, error_message, state, attempts, batch_ids FROM outbox.incident_status ORDER BY id
  `
)

const failure = (errorClass: ErrorClass, reason = "on purpose") => new SinkError({ errorClass, reason, settled: true })

/** Publishes an event in a batch of its own, and leases it. */
const leased = Effect.gen(function* () {
  const store = yield* OutboxStore
  yield* publish
  yield* store.seal({ flush: true })
  return Option.getOrThrow(yield* store.lease("by hand"))
})

/** Takes a batch that may be tried now. */
const again = Effect.flatMap(OutboxStore, (store) => Effect.map(store.lease("by hand"), Option.getOrThrow))

const atOnce = { retryAfter: Duration.zero, incidentAfter: Duration.zero }

/** What is logged by what is heard, as INFO or above. */
const logs = Effect.gen(function* () {
  const said = yield* Ref.make<ReadonlyArray<string>>([])
  const logger = Logger.make<unknown, void>(({ logLevel, message }) =>
    Effect.runSync(Ref.update(said, Arr.append(`${logLevel.label} ${Arr.ensure(message).join(" ")}`)))
  )
  const heard = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    effect.pipe(Effect.provide(Logger.replace(Logger.defaultLogger, logger)), Logger.withMinimumLogLevel(LogLevel.Info))
  return { heard, said: Ref.get(said) }
})

/** Tries again soon. */
const soon = { OUTBOX_LINGER: "10 millis", OUTBOX_RETRY_BASE: "20 millis", OUTBOX_RETRY_CAP: "50 millis" }

layer(Environment.layer(), { excludeTestServices: true })((it) => {
  const causes = {
    configuration: {
      spoil: Effect.as(command("RENAME TABLE event_log TO elsewhere"), {}),
      mend: command("RENAME TABLE elsewhere TO event_log")
    },
    transient: { spoil: Effect.succeed({ CLICKHOUSE_URL: "http://127.0.0.1:1" }), mend: Effect.void }
  }
  for (const [errorClass, { mend, spoil }] of Object.entries(causes)) {
    it.effect(
      `An incident of class ${errorClass} is opened after a while, closed when all got through, and gives nothing up`,
      () =>
        Effect.gen(function* () {
          const { status } = yield* OutboxStore
          const relay = yield* Relay.start(yield* spoil)
          yield* publish
          yield* until(
            batches,
            Arr.some(({ error_class }) => error_class === errorClass)
          )
          expect(yield* incidents).toEqual([])
          yield* (yield* SqlClient.SqlClient)`
          UPDATE outbox.batch SET
            first_attempt_at = first_attempt_at - interval '1 hour', first_error_at = first_error_at - interval '1 hour'
        `
          const [open] = yield* until(incidents, ([incident]) => (incident?.attempts ?? 0) > 2)
          expect(open).toMatchObject({ error_class: errorClass, state: "open", batch_ids: ["1"] })
          expect(yield* status).toMatchObject({ openIncidents: 1, openFailures: { failures: 0 } })

          yield* mend
          yield* Fiber.interrupt(relay)
          yield* Relay.drain
          expect(yield* counts).toEqual({ rows: 1, events: 1 })
          expect(yield* incidents).toMatchObject([{ id: open?.id, state: "closed", batch_ids: ["1"] }])
          expect(yield* status).toMatchObject({ openIncidents: 0, batches: { delivered: 1, failed: 0 } })
        }).pipe(Environment.fresh({ ...soon, OUTBOX_INCIDENT_AFTER: "1 hour" }))
    )
  }

  it.effect("An incident is the same whether a server is away or its answers are", () =>
    Effect.gen(function* () {
      const store = yield* OutboxStore
      const first = yield* leased
      const second = yield* leased
      yield* store.release(second, { ...atOnce, retryAfter: Duration.minutes(1), error: failure("in-doubt") })
      yield* store.release(first, { ...atOnce, error: failure("transient") })
      for (const errorClass of ["in-doubt", "transient", "in-doubt"] as const) {
        yield* store.release(yield* again, { ...atOnce, error: failure(errorClass, errorClass) })
      }
      expect(yield* incidents).toMatchObject([
        { id: 1, error_class: "transient", state: "open", attempts: 5, batch_ids: ["1", "2"] }
      ])
    }).pipe(Environment.fresh())
  )

  it.effect("An incident lists the batches that are blocked or retrying before those that got through", () =>
    Effect.gen(function* () {
      const store = yield* OutboxStore
      for (const lease of [yield* leased, yield* leased, yield* leased]) {
        yield* store.release(lease, { ...atOnce, error: failure("transient") })
      }
      yield* store.acknowledge(yield* again)
      yield* store.fail(yield* again, { error: failure("data"), parked: false })
      expect(yield* incidents).toMatchObject([{ state: "open", batch_ids: ["3", "1", "2"] }])
    }).pipe(Environment.fresh())
  )

  {
    /** Lets a batch's lease run out, as if it had been taken so long ago. */
    const goSilent = (ago: string) =>
      Effect.flatMap(
        SqlClient.SqlClient,
        (sql) => sql`
          UPDATE outbox.batch SET
            available_at = '-infinity',
            first_attempt_at = first_attempt_at - ${ago}::interval,
            first_error_at = first_error_at - ${ago}::interval
          WHERE lease_id IS NOT NULL
        `
      )
    const maintain = Effect.flatMap(OutboxStore, (store) =>
      store.maintain({
        eventRetention: Duration.days(1),
        failureRetention: Duration.days(90),
        incidentAfter: Duration.minutes(1)
      })
    )

    it.effect("An incident of batches whose workers go silent is told of, though none of them says a word", () =>
      Effect.gen(function* () {
        const { heard, said } = yield* logs
        const store = yield* OutboxStore
        yield* leased
        yield* goSilent("1 second")
        yield* maintain
        expect(yield* batches).toMatchObject([{ error_class: null }])
        yield* again
        expect(yield* batches).toMatchObject([
          {
            state: "leased",
            error_class: "in-doubt",
            error_code: null,
            error_message: "Its worker went silent and was given up (by hand)"
          }
        ])
        yield* maintain
        expect(yield* incidents).toEqual([])

        yield* goSilent("2 minutes")
        const last = yield* again
        yield* heard(maintain)
        expect(yield* said).toEqual([
          expect.stringMatching(/^WARN Incident 1: batches have not got through since \S+Z\. Its worker went silent/)
        ])
        const open = { error_class: "transient", state: "open", attempts: 3, batch_ids: ["1"] }
        expect(yield* incidents).toMatchObject([open])
        yield* maintain
        expect(yield* incidents).toMatchObject([open])

        yield* store.release(last, { ...atOnce, error: failure("in-doubt") })
        expect(yield* incidents).toMatchObject([{ state: "open", attempts: 4 }])
        yield* store.acknowledge(yield* again)
        expect(yield* incidents).toMatchObject([{ state: "closed" }])
        expect(yield* batches).toMatchObject([{ state: "delivered", error_class: null, error_message: null }])
      }).pipe(Environment.fresh())
    )

    it.effect("An incident of batches whose workers go silent is one for all of them, and the one that is open", () =>
      Effect.gen(function* () {
        const store = yield* OutboxStore
        for (let n = 0; n < 3; n++) yield* leased
        const fourth = yield* leased
        yield* store.release(fourth, { ...atOnce, retryAfter: Duration.minutes(1), error: failure("transient") })
        yield* goSilent("1 second")
        for (let n = 0; n < 3; n++) yield* again
        yield* goSilent("2 minutes")
        yield* maintain
        expect(yield* incidents).toMatchObject([
          { error_class: "transient", state: "open", attempts: 7, batch_ids: ["1", "2", "3", "4"] }
        ])
      }).pipe(Environment.fresh())
    )
  }

  it.effect(
    "An incident is one for all batches that fail for reasons of its class, and is over with the last of them",
    () =>
      Effect.gen(function* () {
        const { heard, said } = yield* logs
        const story = Effect.gen(function* () {
          const store = yield* OutboxStore
          const first = yield* leased
          const second = yield* leased
          const third = yield* leased
          yield* store.release(first, { ...atOnce, error: failure("transient", "first") })
          yield* store.release(second, { ...atOnce, error: failure("transient", "second") })
          yield* store.release(third, { ...atOnce, error: failure("configuration") })
          const before = [
            { error_class: "transient", error_message: "second", state: "open", attempts: 2, batch_ids: ["1", "2"] },
            { error_class: "configuration", state: "open", batch_ids: ["3"] }
          ]
          expect(yield* incidents).toMatchObject(before)
          yield* store.acknowledge(yield* again)
          expect(yield* incidents).toMatchObject([{ state: "open", batch_ids: ["2", "1"] }, before[1]])

          // The second batch fails for another reason now, and the first got through.
          yield* store.release(yield* again, { ...atOnce, error: failure("configuration") })
          expect(yield* incidents).toMatchObject([
            { state: "closed", batch_ids: ["1"] },
            { state: "open", attempts: 2, batch_ids: ["2", "3"] }
          ])

          yield* store.acknowledge(yield* again)
          yield* store.fail(yield* again, { error: failure("data"), parked: false })
          expect(yield* incidents).toMatchObject([{ state: "closed" }, { state: "closed" }])

          // What fails after that is another one.
          yield* store.release(yield* leased, { ...atOnce, error: failure("transient") })
          expect(yield* incidents).toMatchObject([
            { state: "closed" },
            { state: "closed" },
            { state: "open", attempts: 1 }
          ])
        })
        yield* heard(story)
        expect(yield* said).toEqual([
          expect.stringMatching(/^WARN Incident 1: batches have not got through since \S+Z\. first$/),
          expect.stringMatching(/^WARN Incident 2: batches have not got through since \S+Z\. on purpose$/),
          expect.stringMatching(
            /^INFO Incident 1 is over: none of its batches is blocked or retrying any more\. .* took 2 failed attempts$/
          ),
          expect.stringMatching(/^INFO Incident 2 is over/),
          expect.stringMatching(/^WARN Incident 3/)
        ])
      }).pipe(Environment.fresh())
  )

  it.effect("An incident stays open if a batch joins it while the last of the others gets through", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const store = yield* OutboxStore
      yield* store.release(yield* leased, { ...atOnce, error: failure("transient") })
      const last = yield* again
      const joining = yield* leased
      const joined = yield* Deferred.make<void>()
      const mayCommit = yield* Deferred.make<void>()
      const committing = yield* store
        .release(joining, { ...atOnce, error: failure("transient") })
        .pipe(
          Effect.zipRight(Deferred.succeed(joined, undefined)),
          Effect.zipRight(Deferred.await(mayCommit)),
          sql.withTransaction,
          Effect.fork
        )
      yield* Deferred.await(joined)
      const acknowledging = yield* Effect.fork(store.acknowledge(last))
      yield* until(
        sql`
          SELECT FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted AND datname = current_database()
        `,
        (waiting) => waiting.length > 0
      )
      yield* Deferred.succeed(mayCommit, undefined)
      yield* Effect.zipRight(Fiber.join(committing), Fiber.join(acknowledging))
      expect(yield* batches).toMatchObject([{ state: "delivered" }, { state: "retrying", incident_id: "1" }])
      expect(yield* incidents).toMatchObject([{ state: "open", attempts: 2 }])
    }).pipe(Environment.fresh())
  )

  it.effect("An incident that a relay which was killed left open is closed by the next", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const store = yield* OutboxStore
      yield* store.release(yield* leased, { ...atOnce, error: failure("transient") })
      yield* sql`UPDATE outbox.batch SET state = 'delivered', delivered_at = clock_timestamp()`
      yield* Relay.start()
      yield* until(
        incidents,
        Arr.every(({ state }) => state === "closed")
      )
    }).pipe(Environment.fresh())
  )

  it.effect("An incident A pause keeps every relay from delivering, not from sealing, until it is lifted", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { status } = yield* OutboxStore
      const { heard, said } = yield* logs
      yield* sql`INSERT INTO outbox.relay_pause (paused_by, reason) VALUES ('ada', 'moving the table')`
      yield* Relay.start()
      yield* publish
      yield* until(batches, (all) => all.length > 0)
      const draining = yield* Effect.fork(heard(Relay.drain))
      yield* until(said, Arr.isNonEmptyReadonlyArray)
      yield* Effect.sleep("1500 millis")
      expect(yield* batches).toMatchObject([{ state: "sealed", attempts: 0 }])
      expect(yield* said).toEqual([
        expect.stringMatching(
          /^WARN Nothing is delivered: all relays are paused, by ada since .+\. Reason: moving the table$/
        )
      ])
      expect(yield* status).toMatchObject({ relayPause: { pausedBy: "ada", reason: "moving the table" }, backlog: 1 })

      yield* sql`DELETE FROM outbox.relay_pause`
      yield* Fiber.join(draining)
      expect(yield* batches).toMatchObject([{ state: "delivered", attempts: 1 }])
      expect(yield* status).toMatchObject({ relayPause: null, backlog: 0 })
    }).pipe(Environment.fresh({ OUTBOX_LINGER: "10 millis" }))
  )

  it.effect("An incident A pause lets a batch that is on its way arrive", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const store = yield* OutboxStore
      const lease = yield* leased
      yield* sql`INSERT INTO outbox.relay_pause (paused_by, reason) VALUES ('ada', 'a test')`
      yield* store.acknowledge(lease)
      expect((yield* batches).every(isDelivered)).toBe(true)
    }).pipe(Environment.fresh())
  )

  it.effect("An incident An outbox of an older release is not worked on: it has to be migrated first", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql`DROP TABLE outbox.audit CASCADE`
      const config = yield* Config.outbox
      for (const service of [Effect.asVoid(make(config)), Effect.asVoid(BatchFailures.make)]) {
        const error = yield* Effect.flip(service)
        expect(error).toMatchObject({ _tag: "NotMigrated" })
        expect(error.message).toContain('Run "clickhouse-outbox migrate"')
      }
    }).pipe(Environment.fresh())
  )

  {
    const retention = {
      eventRetention: Duration.days(1),
      failureRetention: Duration.days(90),
      incidentAfter: Duration.minutes(1)
    }

    it.effect("An incident Maintenance deletes much in steps, also where two relays do it at once", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const store = yield* OutboxStore
        yield* sql`
          INSERT INTO outbox.batch_failure (
            batch_id, origin_batch_id, event_count, parked, error_class, error_message, first_seen_at, last_seen_at,
            attempts, state, closed_at
          )
          SELECT n, n, CASE WHEN n % 50 = 0 THEN 50000 ELSE 1 END, true, 'data', '', now(), now(), 1, 'replayed', '2020-01-01'
          FROM generate_series(1, 250) AS n
        `
        yield* sql`
          INSERT INTO outbox.audit (occurred_at, actor, action, failure_id, before, after)
          SELECT '2020-01-01', 'ada', 'replay', n % 250 + 1, '{}', '{}' FROM generate_series(1, 25000) AS n
        `
        const left = sql<{ failures: number; audit: number }>`
          SELECT
            (SELECT count(*)::integer FROM outbox.batch_failure) AS failures,
            (SELECT count(*)::integer FROM outbox.audit) AS audit
        `
        yield* Effect.all([store.maintain(retention), store.maintain(retention)], { concurrency: "unbounded" })
        expect(yield* left).toEqual([{ failures: 0, audit: 0 }])
      }).pipe(Environment.fresh())
    )

    it.effect(
      "An incident Maintenance deletes what has been closed for longer than the retention, and nothing that is open",
      () =>
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const store = yield* OutboxStore
          for (let n = 0; n < 4; n++) yield* store.fail(yield* leased, { error: failure("data"), parked: false })
          // 1 is open, however old; 2 was closed long ago; 3 was closed just now; 4 was seen long ago and closed just now.
          yield* sql`UPDATE outbox.batch_failure SET first_seen_at = '2020-01-01', last_seen_at = '2020-01-01' WHERE id IN (1, 4)`
          yield* sql`UPDATE outbox.batch_failure SET state = 'replayed', closed_at = '2020-01-01' WHERE id = 2`
          yield* sql`
          UPDATE outbox.batch_failure SET state = 'discarded', note = 'a test', closed_at = clock_timestamp()
          WHERE id IN (3, 4)
        `
          yield* sql`
          INSERT INTO outbox.incident (error_class, error_message, began_at, closed_at)
          VALUES ('transient', 'old', '2020-01-01', '2020-01-01'), ('transient', 'new', '2020-01-01', clock_timestamp())
        `
          yield* sql`
          INSERT INTO outbox.audit (occurred_at, actor, action, failure_id, before, after)
          VALUES
            ('2020-01-01', 'ada', 'correct', 1, '{}', '{}'),
            ('2020-01-01', 'ada', 'replay', 2, '{}', '{}'),
            ('2020-01-01', 'ada', 'pause', NULL, '{}', '{}'),
            (clock_timestamp(), 'ada', 'pause', NULL, '{}', '{}')
        `
          yield* store.maintain(retention)
          expect(yield* sql`SELECT id::integer FROM outbox.batch_failure ORDER BY id`).toEqual([
            { id: 1 },
            { id: 3 },
            { id: 4 }
          ])
          expect(yield* sql`SELECT failure_id::integer AS id FROM outbox.batch_failure_event ORDER BY 1`).toEqual([
            { id: 1 },
            { id: 3 },
            { id: 4 }
          ])
          expect(yield* incidents).toMatchObject([{ error_message: "new" }])
          expect(yield* sql`SELECT id::integer FROM outbox.audit ORDER BY id`).toEqual([{ id: 1 }, { id: 4 }])
        }).pipe(Environment.fresh())
    )

    it.effect("An incident Maintenance is done by every relay that runs", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql`
          INSERT INTO outbox.incident (error_class, error_message, began_at, closed_at)
          VALUES ('transient', 'old', '2020-01-01', '2020-01-01')
        `
        yield* Relay.start()
        yield* until(incidents, Arr.isEmptyReadonlyArray)
      }).pipe(Environment.fresh())
    )
  }
})
