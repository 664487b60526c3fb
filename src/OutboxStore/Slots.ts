/**
 * Slots. Frees the space of delivered events by emptying a whole slot, so that there are no dead rows and nothing
 * to vacuum. New rows go to one slot after the other. Publishers lock the slot that they write to and no other, so they
 * notice nothing of it.
 *
 * | a slot | becomes | when |
 * | --- | --- | --- |
 * | is empty | the one that new rows go to | half the retention after the one before it, and that one holds something |
 * | is the one that new rows go to | left | new rows go to the next one |
 * | was left | empty | the retention has passed since, and all of its events are in batches that are dealt with |
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { isLockTimeout } from "../internal/sqlState.ts"
import { firstRowOf, interval, rowOf, rowsOf } from "../schema/columns.ts"
import { IS_FOREIGN } from "../schema/compatibility.ts"
import { atomically } from "../Transaction.ts"
import type { Reclaimed } from "./model.ts"

/** How many there are: the migration creates them. */
export const SLOTS = 4

/** The tables behind `outbox.event`, without the slot's number. */
const TABLE = "outbox.event_slot_"

/**
 * A slot is locked before it is emptied. While that waits for a reader or a writer of the slot, others wait behind it:
 * so it gives up soon. A relay that freezes here must not keep the lock.
 */
const SETTINGS = `
  SET TRANSACTION ISOLATION LEVEL READ COMMITTED READ WRITE;
  SET LOCAL lock_timeout = '100ms';
  SET LOCAL enable_seqscan = off`

const Lock = Schema.Struct({ isOurs: Schema.Boolean })
const Slot = Schema.Struct({ slot: Schema.Int })
const Done = Schema.Struct({ done: Schema.Boolean })

export const make = (sql: SqlClient.SqlClient) => {
  const size = (slot: string) => sql.literal(`pg_relation_size(('${TABLE}' || ${slot})::regclass)`)

  const reclaim = Effect.fn("OutboxStore.reclaim")(function* (retention: Duration.Duration) {
    yield* withLock(recordSlot)
    const left = yield* withLock(findLeft(retention))
    const emptied = yield* Effect.filter(Option.getOrElse(left, Arr.empty), (slot) =>
      Effect.map(withLock(empty(slot)), Option.contains(true))
    ).pipe(
      Effect.tap((emptied) => Effect.when(withLock(sql`SELECT outbox.forget_batches()`), () => emptied.length > 0)),
      Effect.either
    )
    // Also where no slot can be emptied: then all of them fill up, which an alert tells.
    const movedTo = Option.flatten(yield* withLock(rotate(retention)))
    const reclaimed: Reclaimed = { emptied: yield* emptied, movedTo: Option.getOrNull(movedTo) }
    return reclaimed
  })

  /**
   * Each step is a transaction of its own, as TRUNCATE keeps its lock to the end. None is done where another relay does
   * it now, where the outbox is another database's, and where a lock cannot be had in time.
   */
  const withLock = <A>(step: Effect.Effect<A, SqlError>): Effect.Effect<Option.Option<A>, SqlError> =>
    Effect.flatMap(lock, ({ isOurs }) => Effect.when(step, () => isOurs)).pipe(
      atomically(sql, SETTINGS),
      Effect.catchIf(isLockTimeout, () => Effect.succeedNone)
    )

  const lock = rowOf(Lock)(sql`
    SELECT
      outbox.take_turn('reclaim') AND NOT ${sql.literal(IS_FOREIGN)} AS "isOurs"
    FROM outbox.sealer
  `)

  /**
   * Writes down what the sequence says. It moves without a transaction: the relay that moved it may have been killed
   * since.
   */
  const recordSlot = sql`
    UPDATE outbox.slot SET
      opened_at = CASE WHEN slot = outbox.current_slot() THEN clock_timestamp() ELSE opened_at END,
      left_at = CASE WHEN slot = outbox.current_slot() THEN NULL ELSE clock_timestamp() END
    WHERE CASE
      WHEN slot = outbox.current_slot() THEN opened_at IS NULL OR left_at IS NOT NULL
      ELSE left_at IS NULL
    END
  `

  /** Slots that new rows have not gone to for long, and that hold something. */
  const findLeft = (retention: Duration.Duration) =>
    sql`
      SELECT slot
      FROM outbox.slot
      WHERE slot <> outbox.current_slot()
        AND left_at < clock_timestamp() - ${interval(sql, retention)}
        AND ${size("slot")} > 0
      ORDER BY left_at
    `.pipe(rowsOf(Slot), Effect.map(Arr.map(({ slot }) => slot)))

  /**
   * Under the lock no row of the slot can be written or is uncommitted, so the check is made again there, with a
   * snapshot of its own: before it, a transaction may have been about to commit. Whoever seals or reads rows of the
   * slot holds a lock on it until that is committed.
   */
  const empty = (slot: number): Effect.Effect<boolean, SqlError> =>
    Effect.gen(function* () {
      const events = sql.literal(`${TABLE}${slot}`)
      if (!(yield* isDone(slot))) return false
      yield* sql`LOCK TABLE ${events} IN ACCESS EXCLUSIVE MODE`
      if (!(yield* isDone(slot))) return false
      yield* sql`TRUNCATE ${events}`
      yield* sql`UPDATE outbox.slot SET emptied_at = clock_timestamp() WHERE slot = ${slot}`
      return true
    })

  /**
   * Whether new rows go elsewhere, every row of the slot is in a batch, and every such batch is dealt with. What is
   * visible in the sealed snapshot is in a batch: so is all but what the two index ranges hold that a window begins
   * with.
   */
  const isDone = (slot: number): Effect.Effect<boolean, SqlError> => {
    const events = sql.literal(`${TABLE}${slot}`)
    return sql`
      SELECT
        ${slot} <> outbox.current_slot()
        AND NOT EXISTS (SELECT FROM outbox.batch WHERE state = 'pending' AND ${slot} = ANY (slots))
        AND NOT EXISTS (
          SELECT FROM ${events} WHERE tx_id >= (SELECT pg_snapshot_xmax(sealed_snapshot) FROM outbox.sealer)
        )
        AND NOT EXISTS (
          SELECT FROM ${events}
          WHERE tx_id = ANY (ARRAY(SELECT pg_snapshot_xip(sealed_snapshot) FROM outbox.sealer))
        ) AS done
    `.pipe(
      rowOf(Done),
      Effect.map(({ done }) => done)
    )
  }

  /**
   * Half of the retention in each slot: while one is filled and two wait for their time, one can be empty. Where it is
   * not, because its events could not be delivered yet, new rows stay where they go.
   */
  const rotate = (retention: Duration.Duration): Effect.Effect<Option.Option<number>, SqlError> =>
    sql`
      SELECT setval('outbox.event_slot', (slot + 1) % ${SLOTS})::integer AS slot
      FROM outbox.slot
      WHERE slot = outbox.current_slot()
        AND opened_at < clock_timestamp() - ${interval(sql, retention)} / 2
        AND ${size("slot")} > 0
        AND ${size(`(slot + 1) % ${SLOTS}`)} = 0
    `.pipe(
      firstRowOf(Slot),
      Effect.map(Option.map(({ slot }) => slot)),
      Effect.tap((moved) => Effect.when(recordSlot, () => Option.isSome(moved)))
    )

  return { reclaim }
}
