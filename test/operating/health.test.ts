/** Whether a relay does its work, as those are told who restart it or send it traffic. */
import { SqlError } from "@effect/sql/SqlError"
import { expect, it, layer } from "@effect/vitest"
import * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as TestClock from "effect/TestClock"
import * as Config from "../../src/Config.ts"
import * as Event from "../../src/Event.ts"
import * as EventPublisher from "../../src/EventPublisher.ts"
import { NotMigrated, OutboxGauges, Sealed } from "../../src/OutboxStore.ts"
import * as Health from "../../src/Relay/health.ts"
import { probeForever } from "../../src/Relay/probe.ts"
import * as Relay from "../../src/Relay.ts"
import { SinkError } from "../../src/SinkError.ts"
import * as Cli from "../support/cli.ts"
import * as Environment from "../support/environment.ts"
import { ask, config as http, services, start, withToken } from "../support/operator.ts"
import * as Proxy from "../support/proxy.ts"
import * as Stubs from "../support/stubs.ts"
import { until } from "../support/wait.ts"

const outboxWith = (outbox: Partial<typeof Stubs.gauges>): Health.Seen => ({
  postgres: Option.none(),
  clickHouse: Option.none(),
  outbox: Option.some(new OutboxGauges({ ...Stubs.gauges, ...outbox }))
})

const makePulse = Effect.flatMap(Effect.all([Config.relay, Config.outbox]), ([relay, outbox]) =>
  Health.makePulse({ ...relay, ...outbox })
)

const waiting = (undeliveredBatches: Readonly<Record<string, number>>) => outboxWith({ undeliveredBatches })

/** A relay of one worker whose fibers do what they are told to, once a second. */
const beating = (beats: {
  readonly looks: boolean
  readonly works: boolean
  readonly delivers: boolean
  readonly sees: Health.Seen
}) =>
  Effect.gen(function* () {
    const pulse = yield* makePulse
    yield* pulse.started(1)
    const beat = Effect.gen(function* () {
      if (beats.looks) yield* pulse.looked
      if (beats.works) yield* pulse.alive(0)
      if (beats.delivers) yield* pulse.progressed
      yield* pulse.probed(beats.sees)
    })
    yield* Effect.forkScoped(Effect.forever(Effect.zipRight(beat, Effect.sleep("1 second"))))
    return (time: Duration.DurationInput) => Effect.zipRight(TestClock.adjust(time), pulse.health)
  })

const HEALTHY = { looks: true, works: true, delivers: true, sees: outboxWith({}) }
const IDLE = { ...HEALTHY, delivers: false }

{
  it.scoped("A relay is not ready before it has started", () =>
    Effect.gen(function* () {
      const { health } = yield* makePulse
      const { ready, relay } = yield* health
      expect({ ready, relay }).toMatchObject({ ready: false, relay: { ok: false, reason: "has not started" } })
    })
  )

  const ready: ReadonlyArray<readonly [name: string, beats: typeof HEALTHY]> = [
    ["while its fibers work and batches get through", { ...HEALTHY, sees: waiting({ sealed: 3, retrying: 1 }) }],
    ["while there is nothing to do, however long", IDLE],
    ["while others have all the batches", { ...IDLE, sees: waiting({ leased: 5 }) }],
    ["while all that waits is blocked, which has an incident of its own", { ...IDLE, sees: waiting({ blocked: 1 }) }],
    [
      "while an operator has paused it, as it does what it was told",
      { ...IDLE, sees: outboxWith({ relayPaused: true, undeliveredBatches: { sealed: 5 }, oldestUnsealedMillis: 1e6 }) }
    ]
  ]
  for (const [name, beats] of ready) {
    it.scoped(`A relay is ready ${name}`, () =>
      Effect.gen(function* () {
        const later = yield* beating(beats)
        expect((yield* later("2 minutes")).ready).toBe(true)
      })
    )
  }

  const notReady: ReadonlyArray<
    readonly [name: string, beats: typeof HEALTHY, patience: Duration.DurationInput, reason: string]
  > = [
    ["once nobody can look for new events", { ...HEALTHY, looks: false }, "20 seconds", "could not look for new"],
    [
      "once a worker is stuck, or cannot use the outbox",
      { ...HEALTHY, works: false },
      "1 minute",
      "worker 0 could not"
    ],
    [
      "once no batch gets through, though all of its fibers are busy trying",
      { ...IDLE, sees: waiting({ retrying: 1 }) },
      "1 minute",
      "nothing gets through"
    ],
    [
      "once events are not even sealed, though it looks and finds another sealing",
      { ...IDLE, sees: outboxWith({ oldestUnsealedMillis: 100_000 }) },
      "1 minute",
      "nothing gets through"
    ]
  ]
  for (const [name, beats, patience, reason] of notReady) {
    it.scoped(`A relay is not ready ${name}`, () =>
      Effect.gen(function* () {
        const later = yield* beating(beats)
        expect((yield* later(patience)).ready).toBe(true)
        expect((yield* later(patience)).relay.reason).toContain(reason)
      })
    )
  }

  it.scoped("A relay is not ready once nobody knows how the databases are", () =>
    Effect.gen(function* () {
      const pulse = yield* makePulse
      yield* pulse.probed(outboxWith({}))
      expect((yield* pulse.health).postgres).toMatchObject({ ok: true })
      yield* TestClock.adjust("1 minute")
      expect(yield* pulse.health).toMatchObject({ postgres: { ok: false }, clickhouse: { ok: false } })
    })
  )

  const readOnly = new SqlError({ message: "Failed to execute statement", cause: new Error("read-only transaction") })

  interface Databases {
    readonly store?: Parameters<typeof Stubs.store>[0]
    readonly sink?: Parameters<typeof Stubs.sink>[0]
  }

  /** A relay on databases that have nothing to do, and answer like this. */
  const relayOn = ({ sink = {}, store = {} }: Databases) =>
    Effect.gen(function* () {
      const [relay, outbox] = yield* Effect.all([Config.relay, Config.outbox])
      return yield* Relay.make({ ...relay, ...outbox })
    }).pipe(
      Effect.provide(Stubs.sink(sink)),
      Effect.provide(
        Stubs.store({
          position: Effect.succeed({ events: 1, batches: 1, transactions: "1" }),
          seal: () => Effect.succeed(Sealed.Nothing({ transactionsInProgress: false })),
          lease: () => Effect.succeedNone,
          maintain: () => Effect.succeed({ emptied: [], movedTo: null }),
          ...store
        })
      )
    )

  /** Its health after so much time. */
  const running = (store: Parameters<typeof Stubs.store>[0], time: Duration.DurationInput) =>
    Effect.gen(function* () {
      const { health, run } = yield* relayOn({ store })
      yield* Effect.forkScoped(run)
      yield* TestClock.adjust(time)
      return yield* health
    })

  it.scoped("A relay is ready as a whole, where nothing is wrong", () =>
    Effect.gen(function* () {
      expect((yield* running({}, "2 minutes")).ready).toBe(true)
    })
  )

  it.scoped("A relay is not ready on a Postgres that answers and refuses to write: where sealing fails", () =>
    Effect.gen(function* () {
      const { relay } = yield* running({ seal: () => readOnly }, "2 minutes")
      expect(relay.reason).toContain("could not look for new events")
    })
  )

  it.scoped("A relay is not ready on a Postgres that answers and refuses to write: where leasing fails", () =>
    Effect.gen(function* () {
      const { relay } = yield* running({ lease: () => readOnly }, "2 minutes")
      expect(relay.reason).toContain("worker 0 could not use the outbox")
    })
  )

  it.scoped("A relay is ready although its maintenance fails, which is tried again", () =>
    Effect.gen(function* () {
      expect((yield* running({ maintain: () => readOnly }, "2 minutes")).ready).toBe(true)
    })
  )

  const bug = Effect.dieMessage("a bug")
  const bugs: Record<string, Databases> = {
    sealing: { store: { seal: () => bug } },
    "a worker": { store: { lease: () => bug } },
    "the probe of Postgres": { store: { gauges: bug } },
    "the probe of ClickHouse": { sink: { check: bug } },
    maintenance: { store: { maintain: () => bug } }
  }
  for (const [part, databases] of Object.entries(bugs)) {
    it.scoped(`A relay is over, and its end says why, when ${part} has a bug: it does not look alive for ever`, () =>
      Effect.gen(function* () {
        const { run } = yield* relayOn(databases)
        const cause = yield* Effect.flip(Effect.sandbox(run))
        expect(Cause.isDie(cause)).toBe(true)
        expect(Cause.pretty(cause)).toContain("a bug")
      })
    )
  }
}

{
  const refusedBy = (errorClass: SinkError["errorClass"]) =>
    new SinkError({ errorClass, reason: "ada@db.internal has a wrong password", settled: true })

  const denied = new SqlError({
    message: "Failed to execute statement",
    cause: Object.assign(new Error("permission denied for table batch"), { code: "42501" })
  })

  const cases = [
    ["Postgres was not migrated", { gauges: new NotMigrated() }, {}, /^The database has no outbox.*migrate/, /^$/],
    ["Postgres does not answer", { gauges: Effect.never }, {}, /^does not answer$/, /^$/],
    [
      "Postgres has no connection to spare",
      { gauges: Effect.uninterruptible(Effect.never) },
      {},
      /^does not answer$/,
      /^$/
    ],
    ["Postgres answers with an error", { gauges: denied }, {}, /^answers with an error/, /^$/],
    ["ClickHouse does not answer", {}, { check: Effect.never }, /^$/, /^does not answer$/],
    ["ClickHouse is not reached", {}, { check: refusedBy("transient") }, /^$/, /^does not answer$/],
    ["ClickHouse is set up wrong", {}, { check: refusedBy("configuration") }, /^$/, /log says why$/]
  ] as const

  for (const [name, store, sink, postgres, clickhouse] of cases) {
    it.scoped(`The databases are told apart, and no more is said than needed: ${name}`, () =>
      Effect.gen(function* () {
        const pulse = yield* makePulse
        yield* probeForever(pulse).pipe(
          Effect.provide(Layer.merge(Stubs.store(store), Stubs.sink(sink))),
          Effect.forkScoped
        )
        yield* TestClock.adjust("12 seconds")
        const health = yield* pulse.health
        expect(health.postgres.reason ?? "").toMatch(postgres)
        expect(health.clickhouse.reason ?? "").toMatch(clickhouse)
        expect(health.ready).toBe(false)
      })
    )
  }

  /** How often both databases are asked in ten seconds in which somebody wants to know a thousand times. */
  const asked = (transactions: () => string) =>
    Effect.gen(function* () {
      const asked = yield* Ref.make({ outbox: 0, table: 0 })
      const count = (what: "outbox" | "table") =>
        Ref.update(asked, (before) => ({ ...before, [what]: before[what] + 1 }))
      const pulse = yield* makePulse
      const store = Stubs.store({
        position: Effect.sync(() => ({ events: 0, batches: 0, transactions: transactions() })),
        gauges: Effect.as(count("outbox"), Stubs.gauges)
      })
      yield* probeForever(pulse).pipe(
        Effect.provide(Layer.merge(store, Stubs.sink({ check: count("table") }))),
        Effect.forkScoped
      )
      yield* Effect.replicateEffect(Effect.zipRight(pulse.health, TestClock.adjust("10 millis")), 1_000)
      return yield* Ref.get(asked)
    })

  it.scoped("The databases are asked every few seconds, however often somebody wants to know", () =>
    Effect.gen(function* () {
      let ended = 0
      expect(yield* asked(() => String(ended++))).toEqual({ outbox: 3, table: 3 })
    })
  )

  it.scoped("The databases are left alone where nothing has changed since", () =>
    Effect.gen(function* () {
      expect(yield* asked(() => "1")).toEqual({ outbox: 1, table: 3 })
    })
  )
}

const event = Event.make({ eventType: "health_tested", eventContext: {} })

const live = Layer.provideMerge(services, Environment.layer())

const PROBES = ["/healthz", "/readyz", "/version", "/metrics"]

layer(live, { excludeTestServices: true })((it) => {
  it.scoped("The server says whether its process lives, without a token", () =>
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

  it.scoped("The server lets probes in as it lets others in, where it asks for no token", () =>
    Effect.gen(function* () {
      const url = yield* start(http)
      for (const path of PROBES) {
        expect((yield* ask(url, `GET ${path}`, { headers: { host: "example.com" } })).status).toBe(403)
      }
    })
  )

  it.scoped("The server says 503 and what is wrong while a database is away, and 200 when it is back", () =>
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
        until(readiness, (seen) => {
          try {
            expect(seen).toMatchObject({ status, json })
            return true
          } catch {
            return false
          }
        })
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

  it.scoped("The server answers while the relay waits for Postgres to start", () =>
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

  it.scoped("The server prints this project's metrics and no others, without a token", () =>
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
