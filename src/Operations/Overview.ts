/**
 * How an outbox is doing, and how it did over the last hours.
 *
 * Nothing is recorded for it. The manifest says when each batch was sealed and acknowledged, by whichever relay, so what
 * has happened is true for all relays together and outlives each. It costs a scan of two index ranges, and grows with the
 * batches of the time that is looked at: half a second for 100,000 of them.
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Struct from "effect/Struct"
import { rfc3339, rowOf } from "../schema/columns.ts"
import { consistently, readSealer, type Sealer } from "../schema/counts.ts"
import { type OutboxGauges, readGauges } from "../schema/gauges.ts"
import { Overview, OverviewNow } from "../schema/overview.ts"

/**
 * The time that is looked at, until now.
 *
 * @since 0.1.0
 * @category models
 */
export interface OverviewRange {
  /** {@link DEFAULT_MINUTES} ago unless set. */
  readonly since?: Date | undefined
  /** Of one bucket; so long that there are 120 buckets at most, unless set. */
  readonly stepSeconds?: number | undefined
}

/**
 * How far an overview goes back.
 *
 * @since 0.1.0
 * @category limits
 */
export const DEFAULT_MINUTES = 15

const DEFAULT_BUCKETS = 120

/** Steps in seconds that people put on an axis. */
const ROUND_STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900]

/** What the manifest says; the rest is what is asked for, and how it stands now. */
const History = Schema.Struct(Struct.pick(Overview.fields, "at", "recordedSince", "buckets"))

export const make = (sql: SqlClient.SqlClient) => ({
  overview: Effect.fn("Operations.overview")(function* ({ since, stepSeconds }: OverviewRange = {}) {
    const now = yield* Clock.currentTimeMillis
    const from = (since?.getTime() ?? now - DEFAULT_MINUTES * 60_000) / 1_000
    const step = stepSeconds ?? stepOf(now / 1_000 - from)
    return yield* Effect.gen(function* () {
      const sealer = yield* readSealer(sql)
      const outbox = yield* readGauges(sql, sealer)
      const history = yield* rowOf(History)(readHistory(sql, sealer, outbox, { step, first: Math.floor(from / step) }))
      return new Overview({ ...history, stepSeconds: step, now: toNow(outbox) })
    }).pipe(consistently(sql))
  })
})

const stepOf = (seconds: number): number =>
  ROUND_STEPS.find((step) => seconds / step <= DEFAULT_BUCKETS) ?? Math.ceil(seconds / DEFAULT_BUCKETS)

const toNow = (outbox: OutboxGauges): OverviewNow =>
  new OverviewNow({
    backlog: outbox.backlogEvents,
    oldestMillis: outbox.oldestUndeliveredMillis,
    batches: { sealed: 0, leased: 0, retrying: 0, blocked: 0, ...outbox.undeliveredBatches },
    openFailures: outbox.openFailures,
    openFailureEvents: outbox.openFailureEvents,
    openIncidents: Object.keys(outbox.openIncidents).length,
    relayPaused: outbox.relayPaused
  })

/**
 * Buckets are numbered from 1970, so that a chart which is drawn again has them where they were; times are counted in
 * buckets, too, as floats, which are several times faster than Postgres' numerics.
 *
 * Backlogs are counted backwards from what there is now, by what came and what went since: what has left the manifest
 * was delivered before that. The oldest event that waited at some time is the oldest of all that were delivered after it.
 *
 * A batch that was requeued was delivered when it was delivered first. What ClickHouse was found to lack of it
 * waits a second time, from when it was requeued until it was delivered again.
 */
const readHistory = (
  sql: SqlClient.SqlClient,
  { unsealed }: Sealer,
  { backlogEvents, oldestUndeliveredMillis, oldestUnsealedMillis }: OutboxGauges,
  { first, step }: { readonly step: number; readonly first: number }
) => {
  const inBuckets = (time: string) => sql.literal(`extract(epoch FROM ${time})::float8 / ${step}`)
  const toTime = (buckets: string) => sql.literal(`to_timestamp(${buckets} * ${step})`)
  const before = (millis: number) => sql.literal(`now() - ${millis} * interval '1 millisecond'`)
  const since = toTime(String(first))
  return sql`
    WITH edge AS (
      SELECT ${first}::bigint AS first, floor(${inBuckets("now()")})::bigint AS last
    ),
    sealed AS (
      SELECT event_count, ${inBuckets("first_published_at")} AS first, ${inBuckets("sealed_at")} AS sealed
      FROM outbox.batch
      WHERE parent_id IS NULL AND sealed_at >= ${since}
      UNION ALL
      -- What waits to be sealed, as if it were now.
      SELECT
        ${unsealed}::bigint, ${inBuckets(`(now() - ${oldestUnsealedMillis} * interval '1 millisecond')`)}, ${inBuckets("now()")}
    ),
    -- A batch's events were published between its first one and the next batch's first one, or its sealing. One that
    -- committed late does not count as the first. The order is whole, so that batches which were sealed at the same time
    -- have the same share in whatever order Postgres reads them.
    begun AS (
      SELECT
        event_count, sealed, max(first) OVER (ORDER BY sealed, first, event_count ROWS UNBOUNDED PRECEDING) AS began
      FROM sealed
    ),
    stretch AS (
      SELECT
        event_count, began, greatest(began, least(sealed, lead(began) OVER (ORDER BY sealed, began, event_count))) AS ended
      FROM begun
    ),
    published AS (
      SELECT
        n,
        sum(event_count * CASE
          WHEN ended > began THEN (least(ended, n + 1) - greatest(began, n)) / (ended - began)
          ELSE 1
        END) AS events
      FROM edge, stretch, LATERAL generate_series(greatest(floor(began)::bigint, first), least(floor(ended)::bigint, last)) AS n
      GROUP BY n
    ),
    requeue AS (
      SELECT
        event_count, first_published_at, was_delivered_at, missing_count, first_error_at AS since, delivered_at AS until
      FROM outbox.batch
      WHERE was_delivered_at IS NOT NULL
    ),
    delivery AS (
      SELECT event_count, first_published_at, delivered_at AS at
      FROM outbox.batch
      WHERE state = 'delivered' AND delivered_at >= ${since} AND was_delivered_at IS NULL
      UNION ALL
      SELECT event_count, first_published_at, was_delivered_at FROM requeue WHERE was_delivered_at >= ${since}
    ),
    delivered AS (
      SELECT
        least(floor(${inBuckets("at")})::bigint, last) AS n,
        sum(event_count) AS events,
        count(*) AS batches,
        min(first_published_at) AS oldest,
        percentile_cont('{0.5,0.95}'::float8[]) WITHIN GROUP (
          ORDER BY ${sql.literal("extract(epoch FROM at - first_published_at)::float8 * 1000")}
        ) AS millis
      FROM edge, delivery
      GROUP BY 1
    ),
    requeued AS (
      SELECT least(floor(${inBuckets("at")})::bigint, last) AS n, sum(events) AS events, min(oldest) AS oldest
      FROM edge, (
        SELECT since AS at, missing_count AS events, NULL::timestamptz AS oldest FROM requeue
        UNION ALL
        SELECT until, -missing_count, since FROM requeue WHERE until IS NOT NULL
      ) AS moved
      WHERE at >= ${since}
      GROUP BY 1
    ),
    refused AS (
      SELECT
        least(floor(${inBuckets("last_seen_at")})::bigint, last) AS n, sum(event_count) AS events, count(*) AS failures
      FROM edge, outbox.batch_failure
      WHERE last_seen_at >= ${since}
      GROUP BY 1
    ),
    history AS (
      SELECT
        n, least(${toTime("(n + 1)")}, now()) AS ended,
        published.events AS published, delivered.events AS delivered, batches, refused.events AS refused, failures, millis,
        sum(
          coalesce(published.events, 0) + coalesce(requeued.events, 0)
            - coalesce(delivered.events, 0) - coalesce(refused.events, 0)
        ) OVER later AS grown,
        min(least(delivered.oldest, requeued.oldest)) OVER later AS oldest
      FROM edge, generate_series(edge.first, edge.last) AS n
      LEFT JOIN published USING (n)
      LEFT JOIN delivered USING (n)
      LEFT JOIN requeued USING (n)
      LEFT JOIN refused USING (n)
      WINDOW later AS (ORDER BY n DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    )
    SELECT
      ${sql.literal(rfc3339("now()"))} AS at,
      (
        SELECT ${sql.literal(rfc3339("min(at)"))}
        FROM (
          SELECT min(delivered_at) AS at FROM outbox.batch WHERE state = 'delivered'
          UNION ALL
          SELECT min(was_delivered_at) FROM requeue
        ) AS delivered
      ) AS recorded_since,
      (
        SELECT jsonb_agg(jsonb_build_object(
          'at', to_char(${toTime("n")} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
          'published', round(coalesce(published, 0)::numeric, 3),
          'delivered', coalesce(delivered, 0),
          'batches', coalesce(batches, 0),
          'refused', coalesce(refused, 0),
          'failures', coalesce(failures, 0),
          'backlog', round(greatest(${backlogEvents}::float8 - coalesce(grown, 0), 0)),
          'oldest_ms', round(greatest(coalesce(extract(epoch FROM ended - least(
            oldest, ${oldestUndeliveredMillis > 0 ? before(oldestUndeliveredMillis) : sql`NULL`}
          )), 0), 0) * 1000),
          'p50_ms', round(millis[1]),
          'p95_ms', round(millis[2])
        ) ORDER BY n)
        FROM history
      ) AS buckets
  `
}
