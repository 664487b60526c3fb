/**
 * Keys of `outbox.event` in SQL: from where on, in one of a window's two index ranges.
 *
 * Of several lower bounds an index scan begins at a row comparison, if there is one, and not at the highest. So a
 * comparison that does not narrow its range is left out: otherwise a scan would walk through whatever the outbox keeps.
 */

/** A row of `outbox.event`: which transaction, and which of its rows. */
export interface Key {
  readonly txId: string
  readonly id: string
}

/** The sealer's cursor as a {@link Key}, or null. */
export const CURSOR = `
  CASE
    WHEN cursor_id IS NOT NULL THEN jsonb_build_object('txId', cursor_tx_id::text, 'id', cursor_id::text)
  END AS cursor`

export type Range = "window_late_events" | "window_new_events"

/**
 * The condition that rows of a range come behind the key, or `>=` not before it; true where all of them do. Every key of
 * the range of new events is of a transaction that is not below the snapshot's xmax.
 *
 * @param fromSnapshot the snapshot that the window begins with, in Postgres' notation `xmin:xmax:xip`
 */
export const from = (range: Range, fromSnapshot: string, comparison: ">" | ">=", key: Key | null): string => {
  const [, xmax = "0"] = fromSnapshot.split(":")
  const narrows = key !== null && (range === "window_late_events" || BigInt(key.txId) >= BigInt(xmax))
  return narrows ? `(tx_id, id) ${comparison} ('${key.txId}'::xid8, ${key.id}::bigint)` : "true"
}
