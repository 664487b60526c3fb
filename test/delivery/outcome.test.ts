/** What becomes of a batch, whatever an attempt to deliver it comes to: without databases, under a test clock. */
import { SqlError } from "@effect/sql/SqlError"
import { expect, it } from "@effect/vitest"
import * as Arr from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Ref from "effect/Ref"
import * as Stream from "effect/Stream"
import { BatchChanged, LeaseLost, type OutboxStore } from "../../src/OutboxStore.ts"
import { deliverNext } from "../../src/Relay/deliver.ts"
import { SinkError } from "../../src/SinkError.ts"
import * as Stubs from "../support/stubs.ts"

const options = {
  owner: "a test",
  lease: Duration.seconds(30),
  retryBase: Duration.millis(200),
  retryCap: Duration.seconds(10),
  incidentAfter: Duration.minutes(1),
  refusedEventsLimit: 100,
  alive: Effect.void,
  progressed: Effect.void,
  wake: Effect.void
}

const { batch, leaseId } = Stubs.lease

const gone = new SqlError({ message: "the connection is gone", cause: new Error("gone") })
const lost = new LeaseLost({ batchId: batch.id, leaseId })
const changed = new BatchChanged({ batchId: batch.id, expected: 10, actual: 9 })
const down = new SinkError({ errorClass: "transient", reason: "too many parts", code: 252, settled: true })
const refused = new SinkError({ errorClass: "data", reason: "refused", code: 117, settled: true, row: 3 })

interface Databases {
  /** What ClickHouse answers once it has all rows. */
  readonly answer?: Effect.Effect<void, SinkError>
  readonly store?: Partial<typeof OutboxStore.Service>
}

/** Delivers a batch, and tells in order what was done to it and logged, and what the worker is told to slow down for. */
const deliver = ({ answer = Effect.void, store = {} }: Databases) =>
  Effect.gen(function* () {
    const done = yield* Ref.make<ReadonlyArray<string>>([])
    const note = (what: string) => Ref.update(done, Arr.append(what))
    const logger = Logger.make(({ logLevel, message }) =>
      Effect.runSync(note(`${logLevel.label}: ${Arr.ensure(message)[0]}`))
    )
    const databases = Layer.merge(
      Stubs.store({
        lease: () => Effect.succeedSome(Stubs.lease),
        renew: () => Effect.void,
        read: () => Stream.empty,
        acknowledge: () => Effect.as(note("acknowledged"), Duration.seconds(1)),
        release: (_, { error }) => note(`released as ${error.errorClass}: ${error.reason}`),
        abandon: () => note("abandoned"),
        refusals: () => Effect.succeed({ refused: 0, suspectWasGood: false, batches: 1 }),
        split: () => Effect.as(note("split"), []),
        ...store
      }),
      Stubs.sink({ insert: ({ rows }) => Effect.zipRight(Stream.runDrain(rows), Effect.as(answer, "all" as const)) })
    )
    const result = yield* deliverNext(options).pipe(
      Effect.either,
      Effect.provide(databases),
      Effect.provide(Logger.replace(Logger.defaultLogger, logger))
    )
    return { done: yield* Ref.get(done), failed: Either.isLeft(result) ? result.left._tag : undefined }
  })

const NOT_RELEASED = "WARN: The batch could not be released: it is tried again once its lease has run out"

{
  const cases: Record<string, Databases & { readonly done: ReadonlyArray<string>; readonly failed?: string }> = {
    "that ClickHouse has taken is acknowledged": {
      done: ["acknowledged", "INFO: Delivered a batch"]
    },
    "whose data ClickHouse refuses is split, and its worker does not slow down": {
      answer: refused,
      done: ["split", "WARN: ClickHouse refuses a batch of 10 events, which is split into batches "]
    },
    "that ClickHouse did not take for another reason is released with that reason": {
      answer: down,
      done: [
        "WARN: A batch was not delivered: ClickHouse refused. too many parts",
        "released as transient: too many parts"
      ],
      failed: "SinkError"
    },
    "that lacks rows is released, and somebody must restore them": {
      store: { read: () => Stream.fail(changed) },
      done: [`WARN: A batch was not delivered: ${changed.message}`, `released as unknown: ${changed.message}`],
      failed: "BatchChanged"
    },
    "that Postgres failed to read is released in doubt": {
      store: { read: () => Stream.fail(gone) },
      done: ["released as in-doubt: Postgres failed: gone"],
      failed: "SqlError"
    },
    "that Postgres failed to acknowledge is released in doubt, because ClickHouse has it": {
      store: { acknowledge: () => gone },
      done: ["released as in-doubt: Postgres failed: gone"],
      failed: "SqlError"
    },
    "that cannot be released either is left to its lease, and the log says so": {
      store: { acknowledge: () => gone, release: () => gone },
      done: [NOT_RELEASED],
      failed: "SqlError"
    },
    "that cannot be released with ClickHouse's reason is released in doubt, once": {
      answer: down,
      store: { release: () => gone },
      done: ["WARN: A batch was not delivered: ClickHouse refused. too many parts", NOT_RELEASED],
      failed: "SqlError"
    },
    "that another worker has taken is left alone": {
      store: { renew: () => lost },
      done: [`WARN: ${lost.message}`]
    },
    "that another worker has taken before it was split is left alone": {
      answer: refused,
      store: { split: () => lost },
      done: [`WARN: ${lost.message}`]
    },
    "that Postgres failed to split is released in doubt": {
      answer: refused,
      store: { split: () => gone },
      done: ["released as in-doubt: Postgres failed: gone"],
      failed: "SqlError"
    }
  }
  for (const [name, { done, failed, ...databases }] of Object.entries(cases)) {
    it.effect(name, () =>
      Effect.gen(function* () {
        expect(yield* deliver(databases)).toEqual({ done, failed })
      })
    )
  }
}
