/** Sending a batch under its lease, and how long that takes. */
import type { SqlError } from "@effect/sql/SqlError"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Stream from "effect/Stream"
import type { Lease, Repair } from "../Batch.ts"
import { ClickHouseSink, type Insertion, type Taken } from "../ClickHouseSink.ts"
import * as Metrics from "../Metrics.ts"
import { type BatchChanged, type LeaseLost, OutboxStore } from "../OutboxStore.ts"
import type { SinkError } from "../SinkError.ts"

type Insert = Effect.Effect<Taken, SinkError | SqlError | BatchChanged | LeaseLost, OutboxStore | ClickHouseSink>

/** The whole batch, under its own token. */
export const insertBatch = (lease: Lease): Insert =>
  Effect.flatMap(OutboxStore, (store) => insert(lease, { ...lease.batch, rows: store.read(lease.batch) }))

/** Those of its events that ClickHouse was found to lack. */
export const insertRepair = (lease: Lease, repair: Repair): Insert =>
  Effect.flatMap(OutboxStore, (store) =>
    insert(lease, {
      token: repair.token,
      eventCount: repair.eventIds.length,
      rows: store.readRepair(lease.batch, repair)
    })
  )

/**
 * The request ends only after the lease was renewed. A worker that was paused meanwhile, and wakes when another has dealt
 * with the batch, breaks it off instead: ClickHouse stores nothing of a body that does not end.
 */
const insert = (lease: Lease, { eventCount, rows, token }: Insertion<SqlError | BatchChanged>): Insert =>
  Effect.flatMap(Effect.all([OutboxStore, ClickHouseSink]), ([store, sink]) =>
    sink.insert({
      token,
      eventCount,
      rows: Stream.concat(timedRows(rows), Stream.execute(Effect.uninterruptible(store.renew(lease))))
    })
  ).pipe(timed(Metrics.insertSeconds))

const timedRows = <E>(rows: Stream.Stream<Uint8Array, E>): Stream.Stream<Uint8Array, E> =>
  Stream.unwrap(Effect.map(startTimer(Metrics.copySeconds), (stop) => Stream.concat(rows, Stream.execute(stop))))

type Histogram = typeof Metrics.insertSeconds

/** Records how long an effect takes, also where it fails: what takes long most often fails. */
export const timed =
  (histogram: Histogram) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.flatMap(startTimer(histogram), (stop) => Effect.ensuring(effect, stop))

/** Succeeds with the effect that records the time since. */
const startTimer = (histogram: Histogram): Effect.Effect<Effect.Effect<void>> =>
  Effect.map(Clock.currentTimeNanos, (begun) =>
    Effect.flatMap(Clock.currentTimeNanos, (ended) =>
      Metric.update(histogram, Duration.toSeconds(Duration.nanos(ended - begun)))
    )
  )
