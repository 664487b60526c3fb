/**
 * Compares the two databases: whether ClickHouse has each event once that it was found to have taken, as far as the
 * outbox still has it.
 *
 * Goes through delivered batches in the order in which they were sealed, some at a time, so memory does not grow with
 * their number. Relays and publishers may go on: what is not delivered when it begins is not missing, and what is
 * delivered, emptied or requeued meanwhile is left out or seen as it was. Nothing is sent here. A batch that lacks
 * events is requeued: a relay asks ClickHouse itself what it lacks then, and sends that. So nothing arrives twice, whoever
 * does this at the same time, and whatever table this process has asked.
 *
 * @since 0.1.0
 */
import * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { ClickHouseSink } from "./ClickHouseSink.ts"
import { Postgres } from "./Postgres.ts"
import type { SinkError } from "./SinkError.ts"
import type { Actor } from "./schema/audit.ts"
import { retainedOf } from "./schema/batchCopy.ts"
import * as Batches from "./schema/batches.ts"
import {
  type ForeignDatabase,
  type NotMigrated,
  requireOwnOutbox,
  type UnsuitableEncoding
} from "./schema/compatibility.ts"
import { status } from "./schema/counts.ts"
import { type Compared, compare } from "./Verification/compare.ts"
import { Changed, Doubled, type Finding, Missing, Report } from "./Verification/model.ts"
import * as Outbox from "./Verification/Outbox.ts"

export { Actor } from "./schema/audit.ts"
export { Changed, Doubled, Failed, Finding, Missing, Report } from "./Verification/model.ts"

/**
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** Only batches that were delivered, and failures that were refused for the last time, from then on. */
  readonly since?: Date | undefined
  /** Only those before then; before now unless set. */
  readonly until?: Date | undefined
  /**
   * Compares what events say too, up to what ClickHouse's JSON type changes. Reads all of them from both databases: it
   * takes several times as long, and not more memory for more events.
   */
  readonly contents?: boolean | undefined
  /** Requeues batches that lack events, so that relays send those. The audit trail says that this is who did. */
  readonly requeueAs?: Actor | undefined
  /** Run for each finding, in turn. */
  readonly onFinding?: ((finding: Finding) => Effect.Effect<void>) | undefined
  /** Run with the number of events that were compared so far. */
  readonly onProgress?: ((events: number) => Effect.Effect<void>) | undefined
}

/**
 * The comparison of the two databases.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { Verification } from "clickhouse-outbox"
 *
 * // What was delivered on the last day: has relays send what ClickHouse lacks, and says whether all is well.
 * const verifyYesterday = Effect.gen(function* () {
 *   const { verify } = yield* Verification.Verification
 *   const report = yield* verify({
 *     since: new Date(Date.now() - 24 * 60 * 60 * 1000),
 *     requeueAs: Verification.Actor.make("nightly job"),
 *     onFinding: (finding) => Effect.logWarning(finding)
 *   })
 *   return report.isWhole
 * })
 * ```
 * @since 0.1.0
 * @category tags
 */
export class Verification extends Context.Tag("clickhouse-outbox/Verification")<
  Verification,
  {
    readonly verify: (options?: Options) => Effect.Effect<Report, SinkError | SqlError>
  }
>() {}

/**
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<
  typeof Verification.Service,
  ForeignDatabase | NotMigrated | SqlError | UnsuitableEncoding,
  SqlClient.SqlClient | Postgres | ClickHouseSink
> = Effect.gen(function* () {
  const sql = (yield* SqlClient.SqlClient).withoutTransforms()
  const sink = yield* ClickHouseSink
  const outbox = Outbox.make(sql)
  const postgres = yield* Postgres
  const sides = {
    retained: retainedOf(postgres),
    countRows: sink.countRows,
    readRows: sink.readRows,
    countPublished: outbox.countPublished
  }
  yield* requireOwnOutbox(sql)

  const verify = Effect.fn("Verification.verify")(function* ({
    contents = false,
    requeueAs,
    onFinding = () => Effect.void,
    onProgress = () => Effect.void,
    since,
    until
  }: Options = {}) {
    const tableTtl = Option.getOrNull(yield* sink.ttl)
    const { completeSince, now } = yield* outbox.moment
    const asked = until === undefined ? now : DateTime.formatIso(DateTime.unsafeFromDate(until))
    const range: Outbox.Range = {
      since: since === undefined ? null : DateTime.formatIso(DateTime.unsafeFromDate(since)),
      // Both are in UTC, and one of them has more digits.
      until: new Date(asked) < new Date(now) ? asked : now
    }
    const tally = makeTally()

    /** Requeues the batch, if that is asked for and it is still as it was seen. */
    const report = Effect.fnUntraced(function* ({
      batch,
      changed,
      doubled,
      missing,
      retained
    }: Compared<Batches.Delivered>) {
      const about = { batchId: batch.id, deliveredAt: new Date(batch.deliveredAt) }
      add(tally.compared, retained)
      tally.notRetained += batch.eventCount - retained
      if (Arr.isNonEmptyReadonlyArray(missing)) {
        const requeued = requeueAs !== undefined && (yield* Batches.requeue(sql, batch, { actor: requeueAs, missing }))
        add(tally.missing, missing.length)
        if (requeued) add(tally.requeued, missing.length)
        yield* onFinding(new Missing({ ...about, eventIds: missing, requeued }))
      }
      if (Arr.isNonEmptyReadonlyArray(doubled)) {
        add(tally.doubled, doubled.length)
        yield* onFinding(new Doubled({ ...about, eventIds: doubled }))
      }
      if (Arr.isNonEmptyReadonlyArray(changed)) {
        add(tally.changed, changed.length)
        yield* onFinding(new Changed({ ...about, eventIds: changed }))
      }
    })

    const wakeRelays = Effect.catchAll(Batches.wakeRelays(sql), (error) =>
      Effect.logWarning("Idle relays were not told of what was requeued; they find it later", error)
    )

    yield* pages(
      (after) => outbox.nextDelivered(range, after),
      ({ id }) => id,
      (page) =>
        Effect.gen(function* () {
          yield* Effect.forEach(yield* compare(page, { contents, sides }), report, { discard: true })
          yield* onProgress(tally.compared.events)
        })
    ).pipe(Effect.ensuring(Effect.when(wakeRelays, () => tally.requeued.batches > 0)))

    yield* pages(
      (after) => outbox.nextFailed(range, after),
      ({ failureId }) => failureId,
      (page) => {
        for (const { events } of page) {
          tally.failed.failures++
          tally.failed.events += events
        }
        return Effect.forEach(page, onFinding, { discard: true })
      }
    )
    const { backlog } = yield* status(sql)
    return new Report({
      ...tally,
      changed: contents ? tally.changed : null,
      asOf: new Date(now),
      completeSince: completeSince === null ? null : new Date(completeSince),
      undelivered: backlog,
      tableTtl
    })
  })

  return { verify }
})

const makeTally = () => ({
  compared: { batches: 0, events: 0 },
  notRetained: 0,
  missing: { batches: 0, events: 0 },
  requeued: { batches: 0, events: 0 },
  doubled: { batches: 0, events: 0 },
  changed: { batches: 0, events: 0 },
  failed: { failures: 0, events: 0 }
})

const add = (count: { batches: number; events: number }, events: number) => {
  count.batches++
  count.events += events
}

/** One page after the other, by the last id of each, to the end. */
const pages = <A, E1, E2>(
  next: (after: number) => Effect.Effect<ReadonlyArray<A>, E1>,
  idOf: (row: A) => number,
  use: (page: Arr.NonEmptyReadonlyArray<A>) => Effect.Effect<unknown, E2>
): Effect.Effect<void, E1 | E2> =>
  Stream.paginateEffect(0, (after) =>
    Effect.map(next(after), (page) => [page, Option.map(Arr.last(page), idOf)] as const)
  ).pipe(Stream.filter(Arr.isNonEmptyReadonlyArray), Stream.runForEach(use))

/**
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<
  Verification,
  ForeignDatabase | NotMigrated | SqlError | UnsuitableEncoding,
  SqlClient.SqlClient | Postgres | ClickHouseSink
> = Layer.effect(Verification, make)
