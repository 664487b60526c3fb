/** When the relay looks, how long it waits, and what it makes of an answer: without databases, under a test clock. */
import { SqlError } from "@effect/sql/SqlError"
import { expect, it } from "@effect/vitest"
import * as Arr from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Record from "effect/Record"
import * as Ref from "effect/Ref"
import * as TestClock from "effect/TestClock"
import type { ClickHouseSink } from "../../src/ClickHouseSink.ts"
import { Bytes } from "../../src/Config.ts"
import { raceFirst } from "../../src/internal/race.ts"
import { partsOf } from "../../src/OutboxStore/Isolation.ts"
import { LeaseLost, type OutboxStore, Sealed } from "../../src/OutboxStore.ts"
import { deliverNext } from "../../src/Relay/deliver.ts"
import { sealForever } from "../../src/Relay/sealing.ts"
import * as RetryPolicy from "../../src/RetryPolicy.ts"
import * as SinkError from "../../src/SinkError.ts"
import * as Stubs from "../support/stubs.ts"

const config = {
  batchEvents: 1_000,
  batchBytes: Bytes.make(1_000_000),
  linger: Duration.seconds(1),
  lease: Duration.seconds(30),
  workers: 1,
  retryBase: Duration.millis(200),
  retryCap: Duration.seconds(10),
  shutdownGrace: Duration.seconds(10),
  refusedEventsLimit: 100,
  incidentAfter: Duration.minutes(1),
  eventRetention: Duration.days(1),
  failureRetention: Duration.days(90),
  owner: "a test",
  alive: Effect.void,
  progressed: Effect.void,
  wake: Effect.void
}

const brokenConnection = new SqlError({ message: "the connection is gone", cause: new Error("gone") })

{
  /** A sealer in front of a store whose answers a test sets, and which counts what it is asked. */
  const sealer = Effect.gen(function* () {
    const position = yield* Ref.make({ events: 0, batches: 0 })
    const transactions = yield* Ref.make({ ended: 0, goOn: true })
    const answer = yield* Ref.make<Effect.Effect<Sealed, SqlError>>(
      Effect.succeed(Sealed.Nothing({ transactionsInProgress: false }))
    )
    const asked = yield* Ref.make({ position: 0, seal: 0, onBatch: 0 })
    const count = (what: "position" | "seal" | "onBatch") =>
      Ref.update(asked, (before) => ({ ...before, [what]: before[what] + 1 }))
    const store: Partial<typeof OutboxStore.Service> = {
      position: Effect.gen(function* () {
        yield* count("position")
        const { ended } = yield* Ref.updateAndGet(transactions, ({ ended, goOn }) => ({
          ended: goOn ? ended + 1 : ended,
          goOn
        }))
        return { ...(yield* Ref.get(position)), transactions: String(ended) }
      }),
      seal: () => Effect.zipRight(count("seal"), Effect.flatten(Ref.get(answer)))
    }
    yield* sealForever({ ...config, onBatch: count("onBatch"), onLook: Effect.void }).pipe(
      Effect.provide(Stubs.store(store)),
      Effect.forkScoped
    )
    yield* TestClock.adjust("250 millis")
    return {
      position,
      transactions,
      answer,
      /** What is asked while so much time passes. */
      during: (time: Duration.DurationInput) =>
        Effect.gen(function* () {
          yield* Ref.set(asked, { position: 0, seal: 0, onBatch: 0 })
          yield* TestClock.adjust(time)
          return yield* Ref.get(asked)
        })
    }
  })

  it.scoped("The sealer where transactions end, it looks at the outbox once a second: they may have published", () =>
    Effect.gen(function* () {
      const { during } = yield* sealer
      expect(yield* during("10 seconds")).toEqual({ position: 40, seal: 10, onBatch: 0 })
    })
  )

  it.scoped("The sealer at rest it looks how far things have moved four times a second, and never at the outbox", () =>
    Effect.gen(function* () {
      const { during, transactions } = yield* sealer
      yield* Ref.update(transactions, (before) => ({ ...before, goOn: false }))
      yield* during("1 second")
      expect(yield* during("10 seconds")).toEqual({ position: 40, seal: 0, onBatch: 0 })
    })
  )

  it.scoped("The sealer a sequence that moves makes it look at once", () =>
    Effect.gen(function* () {
      const { during, position } = yield* sealer
      yield* Ref.set(position, { events: 1, batches: 0 })
      expect(yield* during("250 millis")).toMatchObject({ seal: 1 })
      expect(yield* during("500 millis")).toMatchObject({ seal: 0 })
    })
  )

  it.scoped(
    "The sealer open transactions make it look each time, because they may commit without a sequence moving",
    () =>
      Effect.gen(function* () {
        const { answer, during } = yield* sealer
        yield* Ref.set(answer, Effect.succeed(Sealed.Nothing({ transactionsInProgress: true })))
        yield* during("1 second")
        expect(yield* during("1 second")).toMatchObject({ seal: 10 })
      })
  )

  it.scoped("The sealer events that may wait are left alone until they are due, or fill a batch", () =>
    Effect.gen(function* () {
      const { answer, during, position } = yield* sealer
      yield* Ref.set(answer, Effect.succeed(Sealed.Waiting({ dueIn: Duration.millis(655) })))
      yield* Ref.set(position, { events: 1, batches: 0 })
      expect(yield* during("250 millis")).toMatchObject({ seal: 1 })
      yield* Ref.set(position, { events: 999, batches: 0 })
      expect(yield* during("654 millis")).toMatchObject({ seal: 0 })
      expect(yield* during("1 millis")).toMatchObject({ seal: 1 })
      yield* Ref.set(position, { events: 1_999, batches: 0 })
      expect(yield* during("100 millis")).toMatchObject({ seal: 1 })
    })
  )

  it.scoped("The sealer one batch makes it look for the next at once, and wakes a worker each time", () =>
    Effect.gen(function* () {
      const { answer, during, position } = yield* sealer
      const left = yield* Ref.make(3)
      yield* Ref.set(
        answer,
        Effect.map(
          Ref.getAndUpdate(left, (n) => n - 1),
          (n) => (n > 0 ? Sealed.Batch({ batch: Stubs.batch }) : Sealed.Nothing({ transactionsInProgress: false }))
        )
      )
      yield* Ref.set(position, { events: 3_000, batches: 0 })
      expect(yield* during("250 millis")).toMatchObject({ seal: 4, onBatch: 3 })
    })
  )

  it.scoped("The sealer a batch that another relay has sealed wakes a worker", () =>
    Effect.gen(function* () {
      const { during, position } = yield* sealer
      yield* Ref.set(position, { events: 0, batches: 1 })
      expect(yield* during("250 millis")).toMatchObject({ seal: 0, onBatch: 1 })
    })
  )

  it.scoped("The sealer an outage is waited out, and the next one is met with short waits again", () =>
    Effect.gen(function* () {
      const { answer, during } = yield* sealer
      const up = yield* Ref.get(answer)
      yield* Ref.set(answer, Effect.fail(brokenConnection))
      yield* during("10 minutes")
      expect((yield* during("1 minute")).seal).toBeLessThanOrEqual(8)
      yield* Ref.set(answer, up)
      yield* during("10 seconds")
      expect(yield* during("10 seconds")).toMatchObject({ seal: 10 })
      yield* Ref.set(answer, Effect.fail(brokenConnection))
      expect((yield* during("3 seconds")).seal).toBeGreaterThanOrEqual(3)
    })
  )
}

{
  const insertFor = (duration: Duration.DurationInput) => ({
    insert: () => Effect.as(Effect.sleep(duration), "all" as const)
  })

  /** Delivers the batch, and tells what became of it. */
  const delivery = (sink: Parameters<typeof Stubs.sink>[0], renew: (typeof OutboxStore.Service)["renew"]) =>
    Effect.gen(function* () {
      const done = yield* Ref.make<ReadonlyArray<string>>([])
      const note = (what: string) => Ref.update(done, (before) => [...before, what])
      const store = Stubs.store({
        lease: () => Effect.succeedSome(Stubs.lease),
        read: () => Stubs.rows,
        renew: (lease) => Effect.zipRight(note("renew"), renew(lease)),
        acknowledge: () => Effect.as(note("acknowledge"), Duration.seconds(1)),
        abandon: () => note("abandon")
      })
      const insert: (typeof ClickHouseSink.Service)["insert"] = (insertion) =>
        (sink.insert?.(insertion) ?? Effect.succeed("all" as const)).pipe(
          Effect.onInterrupt(() => note("insert broken off"))
        )
      yield* deliverNext(config).pipe(Effect.provide(Layer.merge(store, Stubs.sink({ insert }))), Effect.forkScoped)
      return { hasDone: (time: Duration.DurationInput) => Effect.zipRight(TestClock.adjust(time), Ref.get(done)) }
    })

  it.scoped("A lease is renewed for as long as the insert takes", () =>
    Effect.gen(function* () {
      const { hasDone } = yield* delivery(insertFor("60 seconds"), () => Effect.void)
      expect(yield* hasDone("59 seconds")).toEqual(Array(6).fill("renew"))
      expect(yield* hasDone("2 seconds")).toEqual([...Array(6).fill("renew"), "acknowledge"])
    })
  )

  it.scoped("A lease that another worker has taken breaks the insert off, and nothing is acknowledged", () =>
    Effect.gen(function* () {
      const lost = new LeaseLost({ batchId: Stubs.batch.id, leaseId: Stubs.lease.leaseId })
      const { hasDone } = yield* delivery(insertFor("60 seconds"), () => lost)
      expect(yield* hasDone("10 seconds")).toEqual(["renew", "insert broken off"])
      expect(yield* hasDone("2 minutes")).toEqual(["renew", "insert broken off"])
    })
  )

  it.scoped("A lease that cannot be renewed breaks the insert off before it runs out", () =>
    Effect.gen(function* () {
      const { hasDone } = yield* delivery(insertFor("60 seconds"), () => Effect.never)
      expect(yield* hasDone("23 seconds")).toEqual(["renew"])
      expect(yield* hasDone("2 seconds")).toEqual(["renew", "insert broken off"])
    })
  )

  it.scoped("A lease survives a connection that breaks and comes back in time", () =>
    Effect.gen(function* () {
      const failures = yield* Ref.make(3)
      const { hasDone } = yield* delivery(insertFor("20 seconds"), () =>
        Effect.flatMap(
          Ref.getAndUpdate(failures, (n) => n - 1),
          (n) => (n > 0 ? brokenConnection : Effect.void)
        )
      )
      expect(yield* hasDone("21 seconds")).toEqual([...Array(4).fill("renew"), "acknowledge"])
    })
  )
}

{
  it("A batch that is refused is split into smaller parts that hold each event once, whatever row is named", () => {
    const cases = FastCheck.integer({ min: 2, max: 60_000 }).chain((eventCount) =>
      FastCheck.tuple(
        FastCheck.constant(eventCount),
        FastCheck.option(FastCheck.oneof(FastCheck.integer({ min: 1, max: eventCount }), FastCheck.integer()))
      )
    )
    const check = FastCheck.property(cases, ([eventCount, row]) => {
      const parts = partsOf(eventCount, Option.fromNullable(row))
      const bounds = parts.map(({ first, last }) => [first, last])
      expect(bounds.map(([first]) => first)).toEqual([1, ...bounds.slice(0, -1).map(([, last = 0]) => last + 1)])
      expect(parts.at(-1)?.last).toBe(eventCount)
      expect(parts.length).toBeGreaterThan(1)
      expect(parts.length).toBeLessThanOrEqual(10)
      expect(parts.every(({ first, last }) => first <= last)).toBe(true)
      const isWithin = row !== null && row >= 1 && row <= eventCount
      const suspects = parts.filter(({ suspect }) => suspect)
      expect(suspects).toEqual(isWithin ? [{ first: row, last: row, suspect: true }] : [])
    })
    FastCheck.assert(check, { numRuns: 1_000 })
  })

  for (const [bad, mostRequests, mostEvents] of [
    [1, 6, 2.1],
    [10, 60, 3.5],
    [100, 450, 6]
  ] as const) {
    it(`A batch that is refused for ${bad} of 50,000 events takes less than ${mostRequests} requests on average, and sends all less than ${mostEvents} times`, () => {
      const place = FastCheck.noBias(FastCheck.integer({ min: 1, max: 50_000 }))
      const places = FastCheck.uniqueArray(place, { minLength: bad, maxLength: bad })
      const sent = FastCheck.sample(places, { numRuns: 50, seed: 1 }).map((bad) => isolated(1, 50_000, bad))
      const mean = (of: (sum: Sent) => number) => Arr.reduce(sent, 0, (sum, one) => sum + of(one)) / sent.length
      expect(mean(({ requests }) => requests)).toBeLessThan(mostRequests)
      expect(mean(({ events }) => events) / 50_000).toBeLessThan(mostEvents)
    })
  }

  interface Sent {
    readonly requests: number
    readonly events: number
  }

  /** What is sent until the bad ones of the events from `first` to `last` are alone, if ClickHouse names the first. */
  const isolated = (first: number, last: number, bad: ReadonlyArray<number>): Sent => {
    const within = bad.filter((place) => place >= first && place <= last)
    const count = last - first + 1
    const parts = within.length === 0 || count === 1 ? [] : partsOf(count, Option.some(Math.min(...within) - first + 1))
    return Arr.reduce(parts, { requests: 1, events: count }, (sum, part) => {
      const { events, requests } = isolated(first + part.first - 1, first + part.last - 1, within)
      return { requests: sum.requests + requests, events: sum.events + events }
    })
  }
}

{
  const wait = (errorClass: SinkError.ErrorClass, attempt: number) =>
    Effect.map(RetryPolicy.delay(config, errorClass, attempt), Duration.toMillis)

  const between = (least: number, most: number) => (waits: ReadonlyArray<number>) => {
    for (const wait of waits) {
      expect(wait).toBeGreaterThanOrEqual(least)
      expect(wait).toBeLessThanOrEqual(most)
    }
    expect(new Set(waits).size).toBeGreaterThan(waits.length / 2)
  }

  const cases: ReadonlyArray<readonly [SinkError.ErrorClass, number, number]> = [
    ["transient", 1, 200],
    ["transient", 2, 400],
    ["transient", 3, 800],
    ["transient", 6, 6_400],
    ["transient", 7, 10_000],
    ["transient", 10_000, 10_000],
    ["configuration", 1, 10_000],
    ["configuration", 2, 20_000],
    ["configuration", 4, 60_000],
    ["configuration", 10_000, 60_000],
    ["data", 1, 10_000],
    ["data", 10_000, 60_000],
    ["unknown", 1, 10_000],
    ["unknown", 10_000, 60_000]
  ]
  for (const [errorClass, attempt, most] of cases) {
    it.effect(
      `The wait before another attempt is 80 to 100% of ${most} ms after attempt ${attempt} that failed for a reason of class ${errorClass}`,
      () => Effect.map(Effect.replicateEffect(wait(errorClass, attempt), 50), between(most * 0.8, most))
    )
  }
}

it.live(
  "What races for an end has ended, the loser as well, before anything around it is closed: also when it is interrupted",
  () =>
    Effect.gen(function* () {
      const events: Array<string> = []
      const log = (event: string) => Effect.sync(() => void events.push(event))
      const slow = Effect.never.pipe(Effect.onInterrupt(() => Effect.delay(log("ended"), "20 millis")))
      const racing = raceFirst(slow, Effect.never).pipe(Effect.ensuring(log("closed")))
      yield* Effect.timeoutOption(racing, "10 millis")
      expect(events).toEqual(["ended", "closed"])
      yield* raceFirst(slow, Effect.void).pipe(Effect.ensuring(log("closed")))
      expect(events).toEqual(["ended", "closed", "ended", "closed"])
      expect(yield* Effect.flip(raceFirst(Effect.fail("no"), Effect.never))).toBe("no")
    })
)

{
  const answer = (code: number) =>
    SinkError.fromAnswer(500, `Code: ${code}. DB::Exception: Something: (at row 3)\n. (NAME) (version 26.7.2.1)\n`)

  const codes: Record<SinkError.ErrorClass, ReadonlyArray<number>> = {
    data: [6, 25, 26, 27, 38, 41, 53, 69, 72, 117, 131, 321, 349, 376, 469, 675, 691],
    transient: [202, 203, 242, 252, 285],
    "in-doubt": [3, 159, 198, 209, 210, 236, 241, 243, 279, 286, 319, 394, 425, 999, 1000],
    configuration: [16, 48, 60, 62, 73, 81, 115, 164, 192, 193, 194, 497, 516, 774],
    unknown: [395, 49, 1, 4_711]
  }
  for (const [errorClass, all] of Object.entries(codes)) {
    it(`ClickHouse's answer with code ${all.join(", ")} is of class ${errorClass}`, () => {
      expect(all.map((code) => answer(code).errorClass)).toEqual(all.map(() => errorClass))
      expect(all.map((code) => answer(code).code)).toEqual(all)
    })
  }

  it("ClickHouse's answer is understood as each of its libraries prints it", () => {
    const text = "Poco::Exception. Code: 1000, e.code() = 104, Connection reset by peer (version 26.7.2.1)"
    expect(SinkError.fromAnswer(400, text)).toMatchObject({ code: 1000, errorClass: "in-doubt", settled: false })
  })

  it("ClickHouse's answer leaves an attempt in doubt unless it says that nothing was written", () => {
    const { data: _, ...others } = codes
    const settled = Record.map(others, (all) => Arr.dedupe(all.map((code) => answer(code).settled)))
    expect(settled).toEqual({
      transient: [true],
      "in-doubt": [false],
      configuration: [true],
      unknown: [false]
    })
  })

  it("ClickHouse's answer that quotes an event reaches no log: its message names the row instead", () => {
    const error = SinkError.fromAnswer(500, "Code: 117. DB::Exception: Cannot parse {secret}: (at row 3)\n. (NAME)\n")
    expect(error.reason).toContain("secret")
    expect(error.message).toBe("ClickHouse refuses the data of row 3, code 117")
  })

  it("ClickHouse's answer about bad data says that nothing was written only where it names a row", () => {
    const parsing = SinkError.fromAnswer(
      500,
      'Code: 117. DB::Exception: Cannot parse JSON object here: {"a":": (at row 9)"}: (at row 20001)\n: \nRow 20000:\nColumn 0,   name: event_type, parsed text: "another"\n\n: While executing TabSeparatedRowInputFormat. (INCORRECT_DATA) (version 26.7.2.1)\n'
    )
    expect(parsing).toMatchObject({ errorClass: "data", settled: true, row: 20_001 })
    expect(parsing.reason).not.toContain("another")
    const constraint = SinkError.fromAnswer(
      500,
      "Code: 469. DB::Exception: Constraint `c` for table db.event_log (b8c82ceb) is violated at row 777. Expression: (n < 15). Column values: event_context = '{\"n\":77}: (at row 3)'. (VIOLATED_CONSTRAINT) (version 26.7.2.1)\n"
    )
    expect(constraint).toMatchObject({ errorClass: "data", settled: true, row: 777 })
    // As of an index, for which a part is written when others are in the table already.
    const writing = SinkError.fromAnswer(
      500,
      "Code: 6. DB::Exception: Cannot parse string 'none' as UInt64: syntax error at begin of string. (CANNOT_PARSE_TEXT) (version 26.7.2.1)\n"
    )
    expect(writing).toMatchObject({ errorClass: "data", settled: false })
    expect(writing).not.toHaveProperty("row")
  })

  it("ClickHouse's answer is told by its code and not by the HTTP status, which is 500 for bad data too", () => {
    for (const status of [200, 400, 404, 500, 503]) {
      expect(SinkError.fromAnswer(status, "Code: 117. DB::Exception: …").errorClass).toBe("data")
    }
  })

  it("ClickHouse's answer about a view behind the table leaves it in doubt: only the same token again can complete it", () => {
    const boom = "Code: 117. DB::Exception: boom: while executing 'FUNCTION throwIf(…)'"
    const view = SinkError.fromAnswer(500, `${boom}: while pushing to view db.a_view. (NAME) (version 26.7.2.1)\n`)
    expect(view).toMatchObject({ code: 117, errorClass: "unknown", settled: false })
    const quoted = `Code: 117. DB::Exception: Cannot parse JSON object here: {"a":": while pushing to view b"}: (at row 1)`
    const event = SinkError.fromAnswer(500, `${quoted}\n: While executing X. (NAME) (version 26.7.2.1)\n`)
    expect(event).toMatchObject({ code: 117, errorClass: "data", settled: true })
    const values = `event_context = '{"a":"x: while pushing to view x. (A) (version 1)"}', event_type = 'x: while pushing to view y (version 1)'`
    const violated = `Code: 469. DB::Exception: Constraint \`c\` for table t is violated at row 2. Expression: (n < 1). Column values: ${values}`
    const constraint = SinkError.fromAnswer(500, `${violated}. (VIOLATED_CONSTRAINT) (version 26.7.2.1)\n`)
    expect(constraint).toMatchObject({ code: 469, errorClass: "data", settled: true, row: 2 })
  })

  it("ClickHouse's answer without a code is a proxy's: in doubt if something behind it failed, else an address that is wrong", () => {
    expect(SinkError.fromAnswer(502, "Bad Gateway")).toMatchObject({ errorClass: "in-doubt", settled: false })
    expect(SinkError.fromAnswer(404, "Not Found")).toMatchObject({ errorClass: "configuration", settled: true })
  })

  it("ClickHouse's answer that never came leaves an attempt in doubt, unless no connection was made", () => {
    const failed = (code: string, syscall = "connect") =>
      SinkError.fromConnection(Object.assign(new Error("it broke"), { code, syscall }))
    expect(failed("EHOSTUNREACH", "write")).toMatchObject({ errorClass: "in-doubt", settled: false })
    expect(failed("ECONNRESET")).toMatchObject({ errorClass: "in-doubt", settled: false })
    expect(failed("EPIPE")).toMatchObject({ errorClass: "in-doubt", settled: false })
    expect(failed("ECONNREFUSED")).toMatchObject({ errorClass: "transient", settled: true })
    expect(failed("ENOTFOUND")).toMatchObject({ errorClass: "transient", settled: true })
  })
}
