/** This machine's clock, and how far Postgres' is from it. */
import { SqlClient } from "@effect/sql"
import { Effect } from "effect"

/** In milliseconds of this machine's clock. */
export const now = () => performance.timeOrigin + performance.now()

/** How many milliseconds Postgres' clock is ahead of this one: nothing on one machine. */
export const clockAhead = Effect.gen(function* () {
  const asked = now()
  const [row] = yield* (yield* SqlClient.SqlClient)<{ at: number }>`
    SELECT extract(epoch FROM clock_timestamp())::float8 * 1000 AS at
  `
  return (row?.at ?? Number.NaN) - (asked + now()) / 2
})
