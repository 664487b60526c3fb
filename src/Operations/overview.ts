/**
 * How an outbox fares, and how it has fared.
 *
 * Nothing is recorded for it. The manifest says when each batch was sealed and acknowledged, by whichever relay, so what
 * has happened is true for all relays together and outlives each. The cost is that of two ranges of indexes which hold
 * all that is asked for, and grows with the batches of the time that is looked at: 0.2 s for 100,000 of them.
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { Observation } from "../OutboxStore/model.ts"
import { readOutbox } from "../OutboxStore/observe.ts"
import { consistently, readSealer, type Sealer } from "../OutboxStore/sealer.ts"
import { rfc3339 } from "../Row.ts"
import { Overview } from "./overviewModel.ts"

/** What is looked at. */
export interface OverviewRange {
  /** 15 minutes ago unless set. */
  readonly since?: Date | undefined
  /** So long that there are 120 buckets, unless set. */
  readonly stepSeconds?: number | undefined
}

const DEFAULT_RANGE = Duration.toMillis("15 minutes")
const DEFAULT_BUCKETS = 120

export const overview =
  (sql: SqlClient.SqlClient) =>
  ({ since, stepSeconds }: OverviewRange = {}): Effect.Effect<Overview, SqlError> =>
    Effect.gen(function* () {
      const now = yield* Clock.currentTimeMillis
      const from = (since?.getTime() ?? now - DEFAULT_RANGE) / 1_000
      const step = stepSeconds ?? Math.max(1, Math.ceil((now / 1_000 - from) / DEFAULT_BUCKETS))
      const sealer = yield* readSealer(sql)
      const outbox = yield* Effect.flatMap(readOutbox(sql, sealer), decodeObservation)
      const [row] = yield* readHistory(sql, sealer, outbox, step, Math.floor(from / step))
      return yield* Effect.orDie(Schema.decodeUnknown(Overview)({ ...row, step_seconds: step, now: toNow(outbox) }))
    }).pipe(consistently(sql), Effect.withSpan("Operations.overview"))

const decodeObservation = (row: unknown) => Effect.orDie(Schema.decodeUnknown(Observation)(row))

const toNow = (outbox: Observation) => ({
  backlog: outbox.backlogEvents,
  oldest_ms: outbox.oldestUndeliveredMillis,
  batches: { sealed: 0, leased: 0, retrying: 0, held: 0, ...outbox.undeliveredBatches },
  open_failures: outbox.openFailures,
  open_failure_events: outbox.openFailureEvents,
  open_incidents: Object.keys(outbox.openIncidents).length,
  relay_held: outbox.relayHeld
})

/**
 * Buckets are numbered from 1970, so that a chart which is drawn again has them where they were.
 *
 * Backlogs are counted backwards from what there is now, by what came and what went since: what has left the manifest
 * was delivered before that. The oldest event that waited at some time is the oldest of all that were delivered after it.
 */
const readHistory = (
  sql: SqlClient.SqlClient,
  { unsealed }: Sealer,
  outbox: Observation,
  step: number,
  first: number
) => {
  const bucket = (time: string) => sql`floor(extract(epoch FROM ${sql.literal(time)}) / ${step}::integer)::bigint`
  const start = (n: string) => sql`to_timestamp(${sql.literal(n)} * ${step}::integer)`
  return sql`
    WITH bucket AS (
      SELECT n, least(${start("(n + 1)")}, now()) AS ended
      FROM generate_series(${first}::bigint, ${bucket("now()")}) AS n
    ),
    edge AS (
      SELECT ${first}::bigint AS first, greatest(${bucket("now()")}, ${first}) AS last
    ),
    sealed AS (
      SELECT event_count, first_published_at, sealed_at
      FROM outbox.batch
      WHERE parent_id IS NULL AND sealed_at >= ${start(`${first}::bigint`)}
      UNION ALL
      -- What waits to be sealed, as if it were now.
      SELECT ${unsealed}::bigint, now() - ${outbox.oldestUnsealedMillis}::float8 * interval '1 millisecond', now()
    ),
    -- A batch's events were published between its first one and the next batch's first one, or its sealing. One that
    -- committed late does not count as the first.
    begun AS (
      SELECT
        event_count, sealed_at,
        max(first_published_at) OVER (ORDER BY sealed_at ROWS UNBOUNDED PRECEDING) AS began
      FROM sealed
    ),
    stretch AS (
      SELECT
        event_count, began,
        greatest(began, least(sealed_at, lead(began) OVER (ORDER BY sealed_at))) AS ended
      FROM begun
    ),
    published AS (
      SELECT
        n,
        sum(event_count * CASE
          WHEN ended > began THEN
            extract(epoch FROM least(ended, ${start("(n + 1)")}) - greatest(began, ${start("n")}))
            / extract(epoch FROM ended - began)
          ELSE 1
        END) AS events
      FROM edge, stretch,
      LATERAL generate_series(greatest(${bucket("began")}, first), least(${bucket("ended")}, last)) AS n
      GROUP BY n
    ),
    delivered AS (
      SELECT
        least(${bucket("delivered_at")}, last) AS n,
        sum(event_count) AS events,
        count(*) AS batches,
        min(first_published_at) AS oldest,
        percentile_cont('{0.5,0.95}'::float8[]) WITHIN GROUP (
          ORDER BY extract(epoch FROM delivered_at - first_published_at) * 1000
        ) AS millis
      FROM edge, outbox.batch
      WHERE state = 'delivered' AND delivered_at >= ${start(`${first}::bigint`)}
      GROUP BY 1
    ),
    refused AS (
      SELECT least(${bucket("last_seen_at")}, last) AS n, sum(event_count) AS events, count(*) AS failures
      FROM edge, outbox.batch_failure
      WHERE last_seen_at >= ${start(`${first}::bigint`)}
      GROUP BY 1
    ),
    history AS (
      SELECT
        bucket.n, ended, published.events AS published, delivered.events AS delivered, batches, refused.events AS refused,
        failures, millis,
        sum(coalesce(published.events, 0) - coalesce(delivered.events, 0) - coalesce(refused.events, 0))
          OVER later AS grown,
        min(oldest) OVER later AS oldest
      FROM bucket
      LEFT JOIN published USING (n)
      LEFT JOIN delivered USING (n)
      LEFT JOIN refused USING (n)
      WINDOW later AS (ORDER BY n DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    )
    SELECT
      ${sql.literal(rfc3339("now()"))} AS at,
      (
        SELECT ${sql.literal(rfc3339("min(delivered_at)"))} FROM outbox.batch WHERE state = 'delivered'
      ) AS recorded_since,
      (
        SELECT jsonb_agg(jsonb_build_object(
          'at', to_char(${start("n")} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
          'published', round(coalesce(published, 0), 3),
          'delivered', coalesce(delivered, 0),
          'batches', coalesce(batches, 0),
          'refused', coalesce(refused, 0),
          'failures', coalesce(failures, 0),
          'backlog', round(greatest(${outbox.backlogEvents}::bigint - coalesce(grown, 0), 0)),
          'oldest_ms', round(greatest(extract(epoch FROM ended - least(
            oldest,
            CASE WHEN ${outbox.oldestUndeliveredMillis}::float8 > 0 THEN
              now() - ${outbox.oldestUndeliveredMillis}::float8 * interval '1 millisecond'
            END
          )) * 1000, 0)),
          'p50_ms', round(millis[1]::numeric),
          'p95_ms', round(millis[2]::numeric)
        ) ORDER BY n)
        FROM history
      ) AS buckets
  `
}
