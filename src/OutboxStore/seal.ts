/** Cutting committed events into batches. docs/architecture.md#windows argues why nothing is skipped or doubled. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberRef from "effect/FiberRef"
import * as Metric from "effect/Metric"
import type { Batch } from "../Batch.ts"
import type * as Config from "../Config.ts"
import * as Metrics from "../Metrics.ts"
import { checkCluster } from "../schema/compatibility.ts"
import { CURSOR } from "../schema/keys.ts"
import { decodeBatch } from "../schema/manifest.ts"
import { atomically } from "../Transaction.ts"
import { cutBatch, type Progress } from "./cutBatch.ts"
import { type Position, Sealed } from "./model.ts"
import { enterTimeline } from "./timeline.ts"

export const position = (sql: SqlClient.SqlClient): Effect.Effect<Position, SqlError> =>
  // Sequences are read without a snapshot and without a lock on rows. A snapshot's xmax is one above the newest transaction
  // that has ended.
  sql<{ events: string; batches: string; transactions: string }>`
    SELECT
      (SELECT last_value FROM outbox.event_id_seq) AS events,
      (SELECT last_value FROM outbox.batch_id_seq) AS batches,
      pg_snapshot_xmax(pg_current_snapshot())::text AS transactions
  `.pipe(
    Effect.flatMap((rows) => Effect.orDie(Arr.head(rows))),
    Effect.map(({ batches, events, transactions }) => ({
      events: Number(events),
      batches: Number(batches),
      transactions
    }))
  )

export const seal =
  (sql: SqlClient.SqlClient, config: Config.Outbox) =>
  (options?: { readonly flush: boolean }): Effect.Effect<Sealed, SqlError> =>
    Effect.gen(function* () {
      const position = yield* lock(sql)
      if (position === null) return Sealed.Busy()
      const progress = yield* readProgress(sql)
      if (progress.isForeign) yield* refuse(sql)
      if (progress.isNewTimeline) {
        yield* enterTimeline(sql)
        return Sealed.Waiting({ dueIn: Duration.zero })
      }
      const cut = yield* cutBatch(sql, config, { ...progress, position }, options?.flush ?? false)
      if (cut.token !== null) return Sealed.Batch({ batch: yield* decodeBatch(cut) })
      if (cut.waitingFor === null) return Sealed.Nothing({ transactionsInProgress: cut.transactionsInProgress })
      return Sealed.Waiting({ dueIn: Duration.millis(Math.max(cut.waitingFor, 0)) })
    }).pipe(
      atomically(sql, SETTINGS),
      Effect.withTracerEnabled(false),
      (sealing) => Effect.zip(Clock.currentTimeNanos, sealing),
      Effect.tap(([startTime, sealed]) => (sealed._tag === "Batch" ? report(sealed.batch, startTime) : Effect.void)),
      Effect.map(([, sealed]) => sealed)
    )

const report = ({ byteCount, eventCount, id }: Batch, startTime: bigint) =>
  Effect.gen(function* () {
    const endTime = yield* Clock.currentTimeNanos
    yield* Metric.incrementBy(Metrics.eventsSealed, eventCount)
    yield* Metric.update(Metrics.batchEvents, eventCount)
    yield* Metric.update(Metrics.batchBytes, byteCount)
    yield* Metric.update(Metrics.sealSeconds, Duration.toSeconds(Duration.nanos(endTime - startTime)))
    const attributes = { "batch.id": id, "batch.event_count": eventCount, "batch.byte_count": byteCount }
    yield* Effect.annotateLogs(Effect.logDebug("Sealed a batch"), attributes)
    // Made afterwards: most of the time there is nothing to seal, and a span for each look would bury the others.
    if (!(yield* FiberRef.get(FiberRef.currentTracerEnabled))) return
    const tracer = yield* Effect.tracer
    const parent = yield* Effect.option(Effect.currentParentSpan)
    const span = tracer.span("OutboxStore.seal", parent, Context.empty(), [], startTime, "internal")
    for (const [key, value] of Object.entries(attributes)) span.attribute(key, value)
    span.end(endTime, Exit.void)
  })

/**
 * Hold for this transaction, whatever the database's defaults. At a stricter isolation the snapshot would be older than
 * the lock. A batch must be on disk before it can be sent. A relay that freezes here must not keep the lock. And the plan
 * must not change with the statistics of a table that fills and empties all day.
 */
const SETTINGS = `
  SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
  SET LOCAL synchronous_commit = on;
  SET LOCAL idle_in_transaction_session_timeout = '10s';
  SET LOCAL enable_seqscan = off;
  SET LOCAL enable_bitmapscan = off;
  SET LOCAL enable_sort = off;
  SET LOCAL jit = off`

/**
 * One sealer at a time. An advisory lock, because it assigns no transaction id; a statement of its own, because the
 * snapshot of the next one must be taken after the previous sealer has committed. Returns where the sequence of events is,
 * if the lock is ours: read before that snapshot, so that nothing committed later is taken for sealed.
 */
const lock = (sql: SqlClient.SqlClient) =>
  sql<{ locked: boolean; position: string }>`
    SELECT
      pg_try_advisory_xact_lock(hashtext('clickhouse-outbox'), hashtext('seal')) AS locked,
      CASE WHEN is_called THEN last_value ELSE 0 END AS position
    FROM outbox.event_id_seq
  `.pipe(Effect.map(([row]) => (row?.locked === true ? row.position : null)))

/** Waits until nobody seals, and keeps it so until the transaction ends. */
export const awaitSealer = (sql: SqlClient.SqlClient) =>
  sql`SELECT pg_advisory_xact_lock(hashtext('clickhouse-outbox'), hashtext('seal'))`

const readProgress = (sql: SqlClient.SqlClient): Effect.Effect<Progress, SqlError> =>
  // Only the holder of the advisory lock writes this row, so what is read here stays true until it commits.
  sql<Progress>`
    SELECT
      system_identifier <> (SELECT system_identifier FROM pg_control_system()) AS "isForeign",
      timeline <> outbox.current_timeline() AS "isNewTimeline",
      sealed_snapshot::text AS sealed,
      window_snapshot::text AS "window",
      ${sql.literal(CURSOR)}
    FROM outbox.sealer
  `.pipe(Effect.flatMap((rows) => Effect.orDie(Arr.head(rows))))

/** Nothing that a relay could do about it, nor wait for. */
const refuse = (sql: SqlClient.SqlClient) =>
  checkCluster(sql).pipe(Effect.catchTags({ ForeignCluster: Effect.die, NotMigrated: Effect.die }))
