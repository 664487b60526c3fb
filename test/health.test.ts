/** Whether a relay does its work, as those are told who restart it or send it traffic. */
import { describe, expect, it, layer } from "@effect/vitest"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as TestClock from "effect/TestClock"
import * as Config from "../src/Config.ts"
import * as Event from "../src/Event.ts"
import * as EventPublisher from "../src/EventPublisher.ts"
import { NotMigrated, Observation } from "../src/OutboxStore.ts"
import { makePulse, type Seen } from "../src/Relay/health.ts"
import { watch } from "../src/Relay/watch.ts"
import { SinkError } from "../src/SinkError.ts"
import * as Cli from "./support/cli.ts"
import * as Environment from "./support/environment.ts"
import { ask, config as http, services, start, withToken } from "./support/operator.ts"
import * as Proxy from "./support/proxy.ts"
import * as Stubs from "./support/stubs.ts"
import { until } from "./support/wait.ts"

const outboxWith = (undeliveredBatches: Readonly<Record<string, number>>, relayHeld = false): Seen => ({
  postgres: Option.none(),
  clickHouse: Option.none(),
  outbox: Option.some(new Observation({ ...Stubs.observation, undeliveredBatches, relayHeld }))
})

/** A relay of one worker whose fibers do what they are told to, once a second. */
const beating = (beats: {
  readonly looks: boolean
  readonly works: boolean
  readonly delivers: boolean
  readonly sees: Seen
}) =>
  Effect.gen(function* () {
    const config = yield* Effect.all([Config.relay, Config.outbox])
    const pulse = yield* makePulse({ ...config[0], ...config[1] })
    yield* pulse.alive(0)
    const beat = Effect.gen(function* () {
      if (beats.looks) yield* pulse.looked
      if (beats.works) yield* pulse.alive(0)
      if (beats.delivers) yield* pulse.progressed
      yield* pulse.observed(beats.sees)
    })
    yield* Effect.forkScoped(Effect.forever(Effect.zipRight(beat, Effect.sleep("1 second"))))
    return (time: Duration.DurationInput) => Effect.zipRight(TestClock.adjust(time), pulse.health)
  })

const HEALTHY = { looks: true, works: true, delivers: true, sees: outboxWith({}) }

describe("A relay is", () => {
  it.scoped("not ready before it has started", () =>
    Effect.gen(function* () {
      const config = yield* Effect.all([Config.relay, Config.outbox])
      const { health } = yield* makePulse({ ...config[0], ...config[1] })
      const { ready, relay } = yield* health
      expect({ ready, relay }).toMatchObject({ ready: false, relay: { ok: false, reason: "has not started" } })
    })
  )

  it.scoped("ready while its fibers work and batches get through", () =>
    Effect.gen(function* () {
      const later = yield* beating({ ...HEALTHY, sees: outboxWith({ sealed: 3, retrying: 1 }) })
      expect((yield* later("2 hours")).ready).toBe(true)
    })
  )

  it.scoped("ready while there is nothing to do, however long", () =>
    Effect.gen(function* () {
      const later = yield* beating({ ...HEALTHY, delivers: false })
      expect((yield* later("2 hours")).ready).toBe(true)
    })
  )

  it.scoped("not ready once nobody looks for new events, though deliveries go on", () =>
    Effect.gen(function* () {
      const later = yield* beating({ ...HEALTHY, looks: false })
      expect((yield* later("20 seconds")).ready).toBe(true)
      expect((yield* later("20 seconds")).relay.reason).toContain("has not looked for new events")
    })
  )

  it.scoped("not ready once a worker is stuck, though the lease of its batch has long run out", () =>
    Effect.gen(function* () {
      const later = yield* beating({ ...HEALTHY, works: false })
      expect((yield* later("1 minute")).ready).toBe(true)
      expect((yield* later("1 minute")).relay.reason).toContain("worker 0 has been silent")
    })
  )

  it.scoped("not ready once nothing gets through, though all of its fibers are busy trying", () =>
    Effect.gen(function* () {
      const later = yield* beating({ ...HEALTHY, delivers: false, sees: outboxWith({ retrying: 1 }) })
      expect((yield* later("1 minute")).ready).toBe(true)
      expect((yield* later("1 minute")).relay.reason).toContain("nothing gets through")
    })
  )

  it.scoped("ready while others have all the batches", () =>
    Effect.gen(function* () {
      const later = yield* beating({ ...HEALTHY, delivers: false, sees: outboxWith({ leased: 5 }) })
      expect((yield* later("2 hours")).ready).toBe(true)
    })
  )

  it.scoped("ready while an operator holds it, as it does what it was told", () =>
    Effect.gen(function* () {
      const later = yield* beating({ ...HEALTHY, delivers: false, sees: outboxWith({ sealed: 5 }, true) })
      expect((yield* later("2 hours")).ready).toBe(true)
    })
  )

  it.scoped("not ready once nobody knows how the databases are", () =>
    Effect.gen(function* () {
      const config = yield* Effect.all([Config.relay, Config.outbox])
      const pulse = yield* makePulse({ ...config[0], ...config[1] })
      yield* pulse.observed(outboxWith({}))
      expect((yield* pulse.health).postgres).toMatchObject({ ok: true })
      yield* TestClock.adjust("1 minute")
      expect(yield* pulse.health).toMatchObject({ postgres: { ok: false }, clickhouse: { ok: false } })
    })
  )
})

describe("The databases", () => {
  const refusedBy = (errorClass: SinkError["errorClass"]) =>
    new SinkError({ errorClass, reason: "ada@db.internal has a wrong password", settled: true })

  const cases = [
    ["Postgres was not migrated", { observe: new NotMigrated() }, {}, /^The database has no outbox.*migrate/, /^$/],
    ["Postgres does not answer", { observe: Effect.never }, {}, /^does not answer$/, /^$/],
    ["ClickHouse does not answer", {}, { check: Effect.never }, /^$/, /^does not answer$/],
    ["ClickHouse is not reached", {}, { check: refusedBy("transient") }, /^$/, /^does not answer$/],
    ["ClickHouse is set up wrong", {}, { check: refusedBy("configuration") }, /^$/, /log says why$/]
  ] as const

  for (const [name, store, sink, postgres, clickhouse] of cases) {
    it.scoped(`are told apart, and no more is said than needed: ${name}`, () =>
      Effect.gen(function* () {
        const config = yield* Effect.all([Config.relay, Config.outbox])
        const pulse = yield* makePulse({ ...config[0], ...config[1] })
        yield* watch(pulse).pipe(Effect.provide(Layer.merge(Stubs.store(store), Stubs.sink(sink))), Effect.forkScoped)
        yield* TestClock.adjust("7 seconds")
        const health = yield* pulse.health
        expect(health.postgres.reason ?? "").toMatch(postgres)
        expect(health.clickhouse.reason ?? "").toMatch(clickhouse)
        expect(health.ready).toBe(false)
      })
    )
  }

  it.scoped("are asked every few seconds, however often somebody wants to know", () =>
    Effect.gen(function* () {
      const asked = yield* Ref.make(0)
      const config = yield* Effect.all([Config.relay, Config.outbox])
      const pulse = yield* makePulse({ ...config[0], ...config[1] })
      const store = Stubs.store({
        observe: Effect.as(
          Ref.update(asked, (n) => n + 1),
          Stubs.observation
        )
      })
      yield* watch(pulse).pipe(Effect.provide(Layer.merge(store, Stubs.sink({}))), Effect.forkScoped)
      yield* Effect.replicateEffect(Effect.zipRight(pulse.health, TestClock.adjust("10 millis")), 1_000)
      expect(yield* Ref.get(asked)).toBe(3)
    })
  )
})

const event = Event.make({ eventType: "health_tested", eventContext: {} })

const live = Layer.provideMerge(services, Environment.layer())

const PROBES = ["/healthz", "/readyz", "/version", "/metrics"]

layer(live, { excludeTestServices: true })("The server", (it) => {
  it.scoped("says whether its process lives, without a token", () =>
    Effect.gen(function* () {
      const url = yield* start(withToken)
      expect(yield* ask(url, "GET /healthz")).toMatchObject({ status: 200, json: { status: "ok" } })
      expect(yield* ask(url, "GET /version")).toMatchObject({
        status: 200,
        json: { version: expect.stringMatching(/^\d+\.\d+\.\d+/) }
      })
      expect((yield* ask(url, "GET /api/status")).status).toBe(401)
    })
  )

  it.scoped("lets probes in as it lets others in, where it asks for no token", () =>
    Effect.gen(function* () {
      const url = yield* start(http)
      for (const path of PROBES) {
        expect((yield* ask(url, `GET ${path}`, { headers: { host: "example.com" } })).status).toBe(403)
      }
    })
  )

  it.scoped("says 503 and what is wrong while a database is away, and 200 when it is back", () =>
    Effect.gen(function* () {
      const { CLICKHOUSE_URL = "", DATABASE_URL = "" } = yield* Environment.Environment
      const clickHouse = yield* Proxy.make(CLICKHOUSE_URL)
      const postgres = yield* Proxy.make(DATABASE_URL)
      const relay = yield* Cli.start(["relay"], {
        variables: { CLICKHOUSE_URL: clickHouse.url, DATABASE_URL: postgres.url, OUTBOX_HTTP_PORT: "0" }
      })
      const url = yield* relay.url
      const readiness = Effect.map(ask(url, "GET /readyz"), ({ json, status }) => ({ status, json }))
      const when = (status: number, json: object) =>
        until(
          readiness,
          (seen) => {
            try {
              expect(seen).toMatchObject({ status, json })
              return true
            } catch {
              return false
            }
          },
          "25 seconds"
        )
      yield* when(200, {
        status: "ready",
        checks: { postgres: { ok: true }, clickhouse: { ok: true }, relay: { ok: true } }
      })
      yield* clickHouse.freeze(true)
      yield* clickHouse.cut
      yield* when(503, {
        status: "not ready",
        checks: { postgres: { ok: true }, clickhouse: { ok: false, reason: "does not answer" } }
      })
      yield* clickHouse.freeze(false)
      yield* clickHouse.cut
      yield* when(200, { status: "ready" })
      yield* relay.said("ClickHouse answers again")
      yield* postgres.freeze(true)
      yield* postgres.cut
      yield* when(503, { status: "not ready", checks: { postgres: { ok: false }, clickhouse: { ok: true } } })
      expect((yield* ask(url, "GET /healthz")).status).toBe(200)
      const { text } = yield* ask(url, "GET /readyz")
      for (const secret of [new URL(postgres.url).port, "127.0.0.1"]) expect(text).not.toContain(secret)
      yield* postgres.freeze(false)
      yield* postgres.cut
      yield* when(200, { status: "ready" })
    })
  )

  it.scoped("answers while the relay waits for Postgres to start", () =>
    Effect.gen(function* () {
      const relay = yield* Cli.start(["relay"], { variables: { DATABASE_URL: Cli.UNREACHABLE, OUTBOX_HTTP_PORT: "0" } })
      const url = yield* relay.url
      expect((yield* ask(url, "GET /healthz")).status).toBe(200)
      expect(yield* ask(url, "GET /readyz")).toMatchObject({ status: 503, json: { status: "starting" } })
      expect(yield* ask(url, "GET /api/status")).toMatchObject({
        status: 503,
        json: { type: "urn:clickhouse-outbox:postgres-unavailable" }
      })
      const metrics = yield* ask(url, "GET /metrics")
      expect(metrics.text).toMatch(/^outbox_build_info\{version=".+"\} 1$/m)
      expect(metrics.text).toMatch(/^outbox_relay_ready 0$/m)
    })
  )

  it.scoped("prints this project's metrics and no others, without a token", () =>
    Effect.gen(function* () {
      const url = yield* start(withToken)
      yield* EventPublisher.publish(event)
      const { headers, status, text } = yield* ask(url, "GET /metrics")
      expect(status).toBe(200)
      expect(headers["content-type"]).toBe("text/plain; version=0.0.4; charset=utf-8")
      expect(text).toMatch(/^outbox_events_published_total [1-9]\d*$/m)
      const names = [...text.matchAll(/^# TYPE (\w+)/gm)].map(([, name]) => name)
      expect(names.length).toBeGreaterThan(10)
      expect(names.filter((name) => !name?.startsWith("outbox_"))).toEqual([])
    })
  )
})
