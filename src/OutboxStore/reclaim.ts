/**
 * Giving back the space of delivered events: by emptying a whole slot, so that there are no dead rows and nothing to
 * vacuum. New rows go to one slot after the other. Publishers lock the slot that they write to and no other, so they
 * notice nothing of it.
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import type { Fragment } from "@effect/sql/Statement"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import { atomically } from "../Transaction.ts"
import { interval } from "./held.ts"
import type { Reclaimed } from "./model.ts"

/**
 * Whoever reads or writes a slot that is to be emptied is waited for no longer than this, and makes others wait behind it
 * no longer. A relay that freezes here must not keep the lock.
 */
const SETTINGS = `
  SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
  SET LOCAL lock_timeout = '100ms';
  SET LOCAL idle_in_transaction_session_timeout = '10s';
  SET LOCAL enable_seqscan = off`

/** How many there are; see the migration. */
const SLOTS = 4

export const reclaim = (sql: SqlClient.SqlClient, retention: Duration.Duration): Effect.Effect<Reclaimed, SqlError> =>
  Effect.gen(function* () {
    yield* alone(sql, Effect.asVoid(note(sql)))
    const left = yield* alone(sql, findLeft(sql, retention))
    const emptying = yield* Effect.filter(left.flat(), (slot) =>
      Effect.map(alone(sql, empty(sql, slot)), ([isEmptied]) => isEmptied === true)
    ).pipe(
      Effect.tap((emptied) => Effect.when(alone(sql, deleteBatches(sql)), () => emptied.length > 0)),
      Effect.either
    )
    // Also where no slot can be emptied: then all of them fill, which somebody watches.
    const [movedTo] = yield* alone(sql, moveOn(sql, retention))
    return { emptied: yield* emptying, movedTo: movedTo ?? null }
  }).pipe(Effect.withSpan("OutboxStore.reclaim"))

/**
 * Each step is a transaction of its own, as TRUNCATE keeps its lock to the end. Nothing is done, and nothing returned,
 * where another relay is at it, in a database that is not the one it was, and where a lock cannot be had in time.
 */
const alone = <A>(
  sql: SqlClient.SqlClient,
  step: Effect.Effect<A, SqlError>
): Effect.Effect<ReadonlyArray<A>, SqlError> =>
  Effect.gen(function* () {
    const [lock] = yield* sql<{ mine: boolean }>`
      SELECT
        pg_try_advisory_xact_lock(hashtext('clickhouse-outbox'), hashtext('reclaim'))
        AND system_identifier = (SELECT system_identifier FROM pg_control_system()) AS mine
      FROM outbox.sealer
    `
    return lock?.mine === true ? [yield* step] : []
  }).pipe(
    atomically(sql, SETTINGS),
    Effect.catchIf(isLockTimeout, () => Effect.succeed([]))
  )

const isLockTimeout = ({ cause }: SqlError): boolean => Predicate.hasProperty(cause, "code") && cause.code === "55P03"

/** Writes down what the sequence says, which moves without a transaction: whoever had moved it may have been killed. */
const note = (sql: SqlClient.SqlClient) => sql`
  UPDATE outbox.slot SET
    opened_at = CASE WHEN slot = outbox.current_slot() THEN clock_timestamp() ELSE opened_at END,
    left_at = CASE WHEN slot = outbox.current_slot() THEN NULL ELSE clock_timestamp() END
  WHERE CASE
    WHEN slot = outbox.current_slot() THEN opened_at IS NULL OR left_at IS NOT NULL
    ELSE left_at IS NULL
  END
`

const TABLE = "outbox.event_slot_"

/** Slots that new rows have not gone to for long, and that hold something. */
const findLeft = (sql: SqlClient.SqlClient, retention: Duration.Duration) =>
  sql<{ slot: number }>`
    SELECT slot
    FROM outbox.slot
    WHERE slot <> outbox.current_slot()
      AND left_at < clock_timestamp() - ${interval(sql, retention)}
      AND pg_relation_size((${sql.literal(`'${TABLE}'`)} || slot)::regclass) > 0
    ORDER BY left_at
  `.pipe(Effect.map((rows) => rows.map(({ slot }) => slot)))

/**
 * Under the lock no row of the slot can be written or is uncommitted, so the check is made again there, with a snapshot
 * of its own: before it, a transaction may have been about to commit. Whoever seals or reads rows of the slot holds a
 * lock on it until that is committed.
 */
const empty = (sql: SqlClient.SqlClient, slot: number): Effect.Effect<boolean, SqlError> =>
  Effect.gen(function* () {
    const events = sql.literal(`${TABLE}${slot}`)
    if (!(yield* isDone(sql, slot, events))) return false
    yield* sql`LOCK TABLE ${events} IN ACCESS EXCLUSIVE MODE`
    if (!(yield* isDone(sql, slot, events))) return false
    yield* sql`TRUNCATE ${events}`
    yield* sql`UPDATE outbox.slot SET emptied_at = clock_timestamp() WHERE slot = ${slot}`
    return true
  })

/**
 * Whether new rows go elsewhere, every row of the slot is in a batch, and every such batch is dealt with. What is visible
 * in the sealed snapshot is in a batch: so is all but what the two index ranges hold that a window begins with.
 */
const isDone = (sql: SqlClient.SqlClient, slot: number, events: Fragment): Effect.Effect<boolean, SqlError> =>
  sql<{ done: boolean }>`
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
  `.pipe(Effect.map(([row]) => row?.done === true))

/**
 * What is left in the manifest of batches whose rows are gone. Those of failures stay with them, those of a family as long
 * as one of it is pending. So do those that were delivered since the first attempt of one that is: they are counted to
 * tell how many tokens ClickHouse has seen since. And the newest, which says when the last delivery was.
 */
const deleteBatches = (sql: SqlClient.SqlClient) => sql`
  DELETE FROM outbox.batch AS old
  WHERE state <> 'pending'
    AND coalesce(delivered_at, sealed_at) < coalesce(
      (SELECT min(first_attempt_at) FROM outbox.batch WHERE state = 'pending'), 'infinity'
    )
    AND NOT EXISTS (
      SELECT FROM outbox.slot
      WHERE slot.slot = ANY (old.slots) AND coalesce(emptied_at, '-infinity') <= old.sealed_at
    )
    AND NOT EXISTS (
      SELECT FROM outbox.batch AS pending
      WHERE pending.state = 'pending' AND pending.origin_id = coalesce(old.origin_id, old.id)
    )
    AND NOT EXISTS (SELECT FROM outbox.batch_failure WHERE batch_failure.batch_id = old.id)
    AND delivered_at IS DISTINCT FROM (SELECT max(delivered_at) FROM outbox.batch WHERE state = 'delivered')
`

/**
 * Half of the retention in each slot: while one is filled and two wait for their time, one can be empty. Where it is not,
 * because its events could not be delivered yet, rows go on going where they go.
 */
const moveOn = (sql: SqlClient.SqlClient, retention: Duration.Duration): Effect.Effect<number | null, SqlError> =>
  Effect.gen(function* () {
    const size = (slot: string) => sql.literal(`pg_relation_size(('${TABLE}' || ${slot})::regclass)`)
    const [moved] = yield* sql<{ slot: number }>`
      SELECT setval('outbox.event_slot', (slot + 1) % ${SLOTS})::integer AS slot
      FROM outbox.slot
      WHERE slot = outbox.current_slot()
        AND opened_at < clock_timestamp() - ${interval(sql, retention)} / 2
        AND ${size("slot")} > 0
        AND ${size(`(slot + 1) % ${SLOTS}`)} = 0
    `
    if (moved === undefined) return null
    yield* note(sql)
    return moved.slot
  })
